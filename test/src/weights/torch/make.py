"""Writes files of torch.save for the tests of reading them, with torch 2: python make.py FOLDER"""

import os
import sys
from collections import OrderedDict
from pathlib import Path

import torch

out = Path(sys.argv[1])
base = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 8
module = torch.nn.Linear(3, 2)
with torch.no_grad():
    module.weight.copy_(torch.arange(6).reshape(2, 3))
    module.bias.copy_(torch.tensor([0.5, -1.0]))


class Exec:
    def __reduce__(self):
        return os.system, ("echo pwned",)


tensors = {
    "float32": base,
    "float16": base.half(),
    "bfloat16": base.bfloat16(),
    "float64": base.double(),
    "int64": base.long() - 3,
    "transposed": base.t(),
    "part": base[1:3, 2:5],
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 3),
    "parameter": torch.nn.Parameter(base[0].clone()),
}
torch.save(tensors, out / "tensors.bin")
torch.save(tensors, out / "protocol4.bin", pickle_protocol=4)
torch.save(module.state_dict(), out / "module.bin")
torch.save({"epoch": 3, "state_dict": OrderedDict(weight=base)}, out / "lightning.bin")
torch.save({"weight": base, "run": Exec()}, out / "malicious.bin")
torch.save({"weight": base, "epoch": 3}, out / "mixed.bin")
torch.save({"weight": base}, out / "legacy.bin", _use_new_zipfile_serialization=False)
lora = {}
for block in range(2):
    name = f"base_model.model.transformer_blocks.{block}.attn1.to_q"
    lora[f"{name}.lora_A.weight"] = torch.full((2, 32), 0.1)
    lora[f"{name}.lora_B.weight"] = torch.full((32, 2), 0.2).half()
torch.save(lora, out / "adapter_model.bin")

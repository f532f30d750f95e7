"""What diffusers makes of VAEs that firstframe wrote, and VAEs that diffusers writes.

    python vae.py FOLDER

FOLDER/NAME/vae is a VAE, FOLDER/NAME/inputs.safetensors its inputs. Written: FOLDER/NAME/outputs.safetensors (moments,
decoded, loss gradients by parameter), FOLDER/NAME/again (the VAE saved by diffusers, bfloat16, sharded), and
FOLDER/published.json with the parameters of the default configuration.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")
root = Path(sys.argv[1])

for folder in sorted(path for path in root.iterdir() if path.is_dir()):
    x = load_file(folder / "inputs.safetensors")
    vae, loading = AutoencoderKLCogVideoX.from_pretrained(folder / "vae", torch_dtype=torch.float32, output_loading_info=True)
    assert not any(loading.values()), loading
    moments = vae.encode(x["video"]).latent_dist.parameters
    decoded = vae.decode(x["latents"]).sample
    (moments.square().mean() + decoded.square().mean()).backward()
    out = {f"grad.{name}": parameter.grad for name, parameter in vae.named_parameters()}
    out.update(moments=moments.detach(), decoded=decoded.detach())
    save_file({name: value.contiguous() for name, value in out.items()}, folder / "outputs.safetensors")
    vae.to(torch.bfloat16).save_pretrained(folder / "again", max_shard_size="20KB")

with torch.device("meta"):
    published = {name: list(value.shape) for name, value in AutoencoderKLCogVideoX().state_dict().items()}
(root / "published.json").write_text(json.dumps(published))

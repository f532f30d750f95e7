"""What PyTorch prints for the tensors of tensor-text.test.ts: python record.py > expected.json, then biome formats it.

Values stand in the file; those of large tensors follow a formula whose results are exact in float32.
"""
import json
import math
import sys

import torch

DTYPES = {"float32": torch.float32, "int32": torch.int32, "bool": torch.bool, "complex64": torch.complex64}
cases = []


def record(name, tensor, formula=None):
    dtype = next(key for key, value in DTYPES.items() if value == tensor.dtype)
    case = {"name": name, "shape": list(tensor.shape), "dtype": dtype}
    if formula:
        case["formula"] = formula
    else:
        flat = (torch.view_as_real(tensor) if dtype == "complex64" else tensor).flatten().tolist()
        case["values"] = " ".join(str(value) for value in flat)
    case["text"] = repr(tensor)
    if dtype == "float32" and tensor.numel() <= 100:
        case["trained"] = repr(tensor.clone().requires_grad_())
    cases.append(case)


def table(name, values, dtype=torch.float32):
    record(name, torch.tensor(values, dtype=dtype))


def large(name, shape, a, b, m, c, d, dtype=torch.float32):
    """((i * a + b) mod m - c) / d, d a power of two; the imaginary part is its negative."""
    i = torch.arange(math.prod(shape), dtype=torch.int64)
    values = (i * a + b) % m - c
    tensor = (values.double() / d).to(dtype) if dtype.is_floating_point else values.to(dtype)
    if dtype.is_complex:
        tensor = torch.complex((values.double() / d).float(), (-values.double() / d).float())
    record(name, tensor.reshape(shape), {"a": a, "b": b, "m": m, "c": c, "d": d})


nan, inf = math.nan, math.inf
table("scalar", 3.5)
table("whole scalar", 3.0)
table("scalar zero", 0.0)
table("negative scalar", -2.25)
table("scalar nan", nan)
table("small scalar", 1e-7)
table("large scalar", 1e9)
table("vector", [1.0, 2.0, 3.0])
table("fractions", [1.0, 2.5, -3.125])
table("zeros", [0.0] * 40)
table("negative zeros", [-0.0, 0.0, -0.0])
table("zeros and nan", [0.0, nan, -inf])
table("nan only", [nan, nan])
table("inf only", [inf, -inf])
table("whole with inf and nan", [1.0, inf, -inf, nan, 20.0])
table("fractions with inf and nan", [[0.5, inf], [-inf, nan]])
table("powers with inf and nan", [[1e-9, inf], [-inf, nan]])
table("rounds to zero, negative", [-0.00012, 0.5, -0.00004])
table("a thousand times", [1.0, 1000.0])
table("more than a thousand times", [1.0, 1001.0])
table("a thousand times, fractions", [0.5, 500.0])
table("more than a thousand times, fractions", [0.5, 500.5])
table("at 1e8", [1e8, 1e8])
table("above 1e8", [1e8, 2e8])
table("above 1e8, scalar", [3e8])
table("at 1e-4", [1e-4, 2e-3])
table("below 1e-4", [9e-5, 2e-4])
table("subnormal", [1e-40, 3e-45])
table("largest", [3.4028234e38, -1e38])
table("exponents of one and three", [1e-5, 1e12, 1.5e-38])
table("ties at four digits", [0.03125, 0.09375, 0.15625, -0.03125, 1.00005, 2.5])
table("ties in powers", [100005.0, 100015.0, 1.0, -100025.0, 99999.5])
table("carries", [0.99996, 9.99996, 0.99994])
table("carries in powers", [9.99996e9, 0.99996, 9.99994e-9])
table("columns are aligned", [[1.0, -200.0], [30.0, 4.0]])
table("long vector", [i / 7 for i in range(50)])
table("long whole vector", [float(i) for i in range(100)])
table("one below another", [[[float(i + 3 * j + 9 * k) for i in range(3)] for j in range(3)] for k in range(2)])
table("four axes", [[[[0.5, 1], [2, 3]]], [[[4, 5], [6, 7]]]])
table("a column", [[1.0], [2.0]])
table("booleans", [True, False, True], torch.bool)
table("all true", [[True, True], [True, True]], torch.bool)
table("boolean scalar", False, torch.bool)
table("integers", [1, -20, 300], torch.int32)
table("integer scalar", 7, torch.int32)
table("many integers", list(range(-10, 60)), torch.int32)
table("extreme integers", [2**31 - 1, -(2**31)], torch.int32)
table("complex", [1 + 2j, 0.5 - 1j], torch.complex64)
table("complex scalar", 3 - 0.25j, torch.complex64)
table("complex whole", [[1 + 2j, -3 + 0j], [0j, 4 - 5j]], torch.complex64)
table("complex powers", [1e-9 + 2j, 5j, -3e5 - 1e-9j], torch.complex64)
table("complex not finite", [complex(nan, 1), complex(1, inf), complex(-inf, nan), complex(0.5, -inf)], torch.complex64)
table("many complex", [complex(i / 3, -i / 7) for i in range(20)], torch.complex64)
for dtype in DTYPES.values():
    for shape in [(0,), (0, 3), (2, 0), (2, 0, 3)]:
        record(f"empty {shape} {dtype}", torch.empty(shape, dtype=dtype))
for width in range(1, 12):
    table(f"line of {width} digits", [float(10**width - 1) for _ in range(30)])
    table(f"integers of {width} digits", [10 ** min(width, 9) for _ in range(30)], torch.int32)
for count in range(1, 16):
    table(f"suffix after {count}", [i / 4 for i in range(count)])
    table(f"suffix after {count} integers", [1000 * i for i in range(count)], torch.int32)

large("a thousand", (1000,), 7, 0, 1000, 500, 4)
large("a thousand and one", (1001,), 7, 0, 1000, 500, 4)
large("a thousand in a square", (10, 100), 7, 0, 1000, 500, 4)
large("matrix", (40, 30), 7, 3, 1001, 500, 256)
large("six wide", (200, 6), 7, 3, 1001, 500, 256)
large("seven wide", (200, 7), 7, 3, 1001, 500, 256)
large("two high", (2, 700), 7, 3, 1001, 500, 256)
large("latents", (1, 24, 21, 16, 24), 7919, 3, 100003, 50000, 16384)
large("wide range", (50, 60), 7919, 3, 100003, 0, 16384)
large("whole numbers", (7, 11, 13), 1, 0, 100000, 0, 1)
large("integers in part", (50, 60), 7919, 3, 100003, 50000, 1, torch.int32)
large("booleans in part", (50, 60), 3, 1, 2, 0, 1, torch.bool)
large("one more axis", (1, 1, 1, 1, 1, 1001), 1, 0, 100000, 0, 1)
large("six axes", (2, 2, 2, 2, 9, 9), 7919, 3, 100003, 50000, 16384)
# More axes than WebGPU slices.
large("seven axes", (2, 2, 2, 2, 2, 2, 20), 1, 0, 100003, 0, 1)
large("complex in part", (40, 41), 7919, 3, 100003, 50000, 16384, torch.complex64)
# The middle, which is not printed, decides nothing: only the ends are looked at.
large("the middle is larger", (3000,), 1, 0, 3000, 0, 1)

torch.manual_seed(0)
for i in range(80):
    shape = tuple(torch.randint(1, 6, (int(torch.randint(0, 4, ())),)).tolist())
    spread = [0.0, 1.0, 3.0, 8.0][i % 4]
    tensor = torch.randn(shape) * 10 ** (torch.randn(shape) * spread)
    if i % 3 == 0:
        tensor = tensor.round()
    if i % 7 == 0 and tensor.numel() > 1:
        tensor.view(-1)[int(torch.randint(0, tensor.numel(), ()))] = [nan, inf, -inf, 0.0][i % 4]
    record(f"drawn {i}", tensor)

json.dump({"torch": torch.__version__, "cases": cases}, sys.stdout, indent=2)
print()

"""The modules of diffusers' and transformers' models, by name: python record_modules.py > modules.json

Of the small models in test/golden/components; modules without parameters (dropout, activations) are left out.
"""
import json
import os
import sys

from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel
from transformers import T5EncoderModel

components = os.path.join(os.path.dirname(__file__), "../../golden/components")
MODELS = {
    "vae": AutoencoderKLCogVideoX,
    "t15": CogVideoXTransformer3DModel,
    "t10_learned": CogVideoXTransformer3DModel,
    "t5": T5EncoderModel,
}


def modules(model):
    return {
        name: {"kind": type(module).__name__, "size": sum(p.numel() for p in module.state_dict().values())}
        for name, module in model.named_modules()
        if module.state_dict()
    }


def load(name, kind):
    return kind.from_pretrained(os.path.join(components, name))


json.dump({name: modules(load(name, kind)) for name, kind in MODELS.items()}, sys.stdout, indent=2)
print()

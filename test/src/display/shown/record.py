"""What diffusers and transformers say of the small models in test/golden/components, for shown.test.ts.

python record.py > expected.json, then biome formats it. Modules without parameters (dropout, activations) are left out.
"""
import json
import os
import sys

import diffusers
from transformers import T5EncoderModel

COMPONENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../golden/components")
MODELS = {
    "vae": diffusers.AutoencoderKLCogVideoX,
    "t15": diffusers.CogVideoXTransformer3DModel,
    "t10_learned": diffusers.CogVideoXTransformer3DModel,
    "t5": T5EncoderModel,
}


def modules(name, kind):
    """Class and number of values of each module, by its name. T5's embed_tokens is shared again under another name."""
    found = {}
    for path, module in kind.from_pretrained(os.path.join(COMPONENTS, name)).named_modules():
        own = [value for key, value in module.state_dict().items() if not key.endswith("embed_tokens.weight")]
        if own and not path.endswith("embed_tokens"):
            found[path] = f"{type(module).__name__} {sum(value.numel() for value in own)}"
    return found


def scheduler(name):
    folder = os.path.join(COMPONENTS, name)
    config = json.load(open(os.path.join(folder, "scheduler_config.json")))
    return repr(getattr(diffusers, config["_class_name"]).from_pretrained(folder))


schedulers = sorted(name for name in os.listdir(COMPONENTS) if name.startswith("scheduler_"))
expected = {
    "modules": {name: modules(name, kind) for name, kind in MODELS.items()},
    "schedulers": {name: scheduler(name) for name in schedulers},
}
json.dump(expected, sys.stdout, indent=2)
print()

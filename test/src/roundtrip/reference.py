"""What diffusers, transformers and PEFT make of a folder that firstframe wrote, and what they write themselves.

    python reference.py FOLDER

FOLDER/ours has the pipeline, a LoRA in both formats, and inputs.safetensors. Written to FOLDER/theirs: outputs for the
inputs (outputs.safetensors, tokens.json), and the same models saved again by the Python libraries.
"""

import json
import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

warnings.filterwarnings("ignore")

from diffusers import CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from diffusers.models.autoencoders import vae as dvae
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo import pipeline_cogvideox_image2video as dpipe
from diffusers.schedulers import scheduling_dpm_cogvideox as ddpm
from peft import LoraConfig, PeftModel
from peft.utils import get_peft_model_state_dict

root = Path(sys.argv[1])
ours, theirs = root / "ours", root / "theirs"
theirs.mkdir()
x = load_file(ours / "inputs.safetensors")
settings = json.loads((ours / "settings.json").read_text())
out = {}


def load(**kwargs):
    pipe = CogVideoXImageToVideoPipeline.from_pretrained(ours / "pipeline", **kwargs)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def forward(transformer, hidden_states=x["hidden_states"], text=x["encoder_hidden_states"], timesteps=x["timesteps"]):
    cfg = transformer.config
    _, frames, _, height, width = hidden_states.shape
    grid = (height // cfg.patch_size, width // cfg.patch_size)
    rope = None
    if cfg.use_rotary_positional_embeddings:
        rope = get_3d_rotary_pos_embed(embed_dim=cfg.attention_head_dim, crops_coords=None, grid_size=grid,
                                       temporal_size=frames // (cfg.patch_size_t or 1), grid_type="slice", max_size=grid)
    ofs = None if cfg.ofs_embed_dim is None else torch.full((1,), 2.0)
    with torch.no_grad():
        return transformer(hidden_states=hidden_states, encoder_hidden_states=text, timestep=timesteps.long(), ofs=ofs,
                           image_rotary_emb=rope, return_dict=False)[0]


# Everything loads without a warning about missing or unexpected keys; torch_dtype keeps the file's type otherwise.
pipe = load(torch_dtype=torch.float32)
out["sample"] = forward(pipe.transformer)
with torch.no_grad():
    out["moments"] = pipe.vae.encode(x["video"]).latent_dist.parameters
ids = pipe.tokenizer(settings["prompts"], padding="max_length", max_length=settings["max_length"], truncation=True,
                     add_special_tokens=True, return_tensors="pt").input_ids
with torch.no_grad():
    out["prompt_embeds"] = pipe.text_encoder(ids)[0]
(theirs / "tokens.json").write_text(json.dumps(ids.tolist()))

# The whole pipeline from pixels, prompt and noise to frames.
for kind in ("ddim", "dpm"):
    if kind == "dpm":
        pipe.scheduler = CogVideoXDPMScheduler.from_config(pipe.scheduler.config)
    draws = [x["image_noise"]]
    if kind == "dpm":
        for i in range(settings["steps"]):
            draws += [x[f"step_noise{i}"]] * (2 if 0 < i < settings["steps"] - 1 else 1)

    def take(shape, generator=None, device=None, dtype=None, layout=None):
        return draws.pop(0).reshape(shape)

    for module in (dvae, ddpm, dpipe):
        module.randn_tensor = take
    out[f"frames_{kind}"] = pipe(image=x["image"], prompt=settings["prompts"][0], negative_prompt=settings["negative"],
                                 height=settings["height"], width=settings["width"], num_frames=settings["num_frames"],
                                 num_inference_steps=settings["steps"], latents=x["latents"].clone(),
                                 max_sequence_length=settings["max_length"], output_type="pt").frames
    assert not draws, f"{len(draws)} draws were left"

# LoRA: read in both formats, and written by both.
base = load(torch_dtype=torch.float32)
base.load_lora_weights(ours / "lora", adapter_name="ours")
base.set_adapters(["ours"], [settings["lora_scale"]])
out["sample_lora"] = forward(base.transformer)
config = base.transformer.peft_config["ours"]
CogVideoXImageToVideoPipeline.save_lora_weights(theirs / "lora", transformer_lora_layers=get_peft_model_state_dict(base.transformer, adapter_name="ours"))
base.transformer.save_lora_adapter(theirs / "lora_with_metadata", adapter_name="ours")

with_metadata = load(torch_dtype=torch.float32)
with_metadata.load_lora_weights(ours / "lora_with_metadata")
out["sample_lora_metadata"] = forward(with_metadata.transformer)

# Ranks and alphas by patterns, and two adapters at once.
with_metadata.load_lora_weights(ours / "lora_patterned", adapter_name="patterned")
with_metadata.set_adapters(["patterned"])
out["sample_lora_patterned"] = forward(with_metadata.transformer)
with_metadata.set_adapters(["patterned", "default_0"], [0.5, -2.0])
out["sample_lora_two"] = forward(with_metadata.transformer)

peft_model = PeftModel.from_pretrained(load(torch_dtype=torch.float32).transformer, ours / "lora_peft")
out["sample_lora_peft"] = forward(peft_model)
peft_model.save_pretrained(theirs / "lora_peft")

fused = load(torch_dtype=torch.float32)
fused.load_lora_weights(ours / "lora")
fused.fuse_lora(lora_scale=settings["lora_scale"])
out["sample_lora_fused"] = forward(fused.transformer)

# Configurations that no published model has.
for name in settings["variants"]:
    variant = CogVideoXTransformer3DModel.from_pretrained(ours / "variants" / name)
    out[f"variant.{name}"] = forward(variant, x[f"{name}.hidden_states"], x[f"{name}.encoder_hidden_states"], torch.tensor([437]))

# The repository's own small pipeline.
small = CogVideoXImageToVideoPipeline.from_pretrained(settings["small"], torch_dtype=torch.float32)
ids = small.tokenizer([settings["caption"]], padding="max_length", max_length=small.transformer.config.max_text_seq_length,
                      truncation=True, add_special_tokens=True, return_tensors="pt").input_ids
with torch.no_grad():
    out["small.prompt_embeds"] = small.text_encoder(ids)[0]
out["small.sample"] = forward(small.transformer, x["small.hidden_states"], out["small.prompt_embeds"], torch.tensor([437]))

# The models saved again: in float32, in bfloat16 shards, and as a text-to-video pipeline's folder.
again = load(torch_dtype=torch.float32)
again.save_pretrained(theirs / "pipeline")
again.transformer.to(torch.bfloat16).save_pretrained(theirs / "transformer_bf16", max_shard_size="40KB")
widened = type(again.transformer).from_pretrained(theirs / "transformer_bf16", torch_dtype=torch.float32)
out["sample_bf16"] = forward(widened)

save_file({k: v.contiguous().float() for k, v in out.items()}, theirs / "outputs.safetensors")

#!/usr/bin/env python3
"""Trains 20 steps in PyTorch, as SFT and as LoRA, with every random draw written down.

    python trajectory.py OUT.safetensors

The transformer, VAE and schedule are those of components/; the loss is make_golden's `recipe_loss`. The file holds, for
each kind of training, the draws of every step (`KIND.STEP.NAME`), the losses (`KIND.losses`, float64), the weights before
(`lora.start.NAME`) and after (`KIND.end.NAME`). test/src/roundtrip/trajectory.test.ts takes the same steps.
"""

from __future__ import annotations

import sys

import torch
from diffusers.optimization import get_scheduler
from make_golden import DEV, HERE, Ctx, lora_config, make_video, noise_tape, plain_name, randn, recipe_loss
from safetensors.torch import save_file

STEPS, CLIPS, BATCH = 20, 3, 2
FRAMES, HEIGHT, WIDTH = 9, 32, 48
LATENT = (4, 3, 4, 6)
LEARNING_RATE = {"sft": 1e-3, "lora": 5e-3}


def train(kind: str, out: dict[str, torch.Tensor]) -> None:
    seed = DEV["seed"]
    ctx = Ctx(HERE, torch.float32)
    vae, transformer, scheduler = ctx.vae(), ctx.transformer("t15"), ctx.scheduler("dpm", "15")
    if kind == "lora":
        torch.manual_seed(seed)
        transformer.add_adapter(lora_config(DEV))
        for name, weight in transformer.named_parameters():
            if weight.requires_grad:
                scale = weight.shape[1] ** -0.5 if "lora_A" in name else 0.05
                weight.data.copy_(randn(seed, "trajectory." + plain_name(name), *weight.shape, scale=scale))
    else:
        transformer.requires_grad_(True)
    transformer.train()
    trained = {plain_name(name): weight for name, weight in transformer.named_parameters() if weight.requires_grad}
    if kind == "lora":
        out.update({"lora.start." + name: weight.detach().clone() for name, weight in trained.items()})

    latents = torch.stack([out[f"latent.{i}"] for i in range(CLIPS)])
    prompts = torch.stack([out[f"prompt.{i}"] for i in range(CLIPS)])
    images = torch.stack([out[f"image.{i}"] for i in range(CLIPS)])
    optimizer = torch.optim.AdamW(trained.values(), lr=LEARNING_RATE[kind], betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-4)
    schedule = get_scheduler("constant_with_warmup", optimizer=optimizer, num_warmup_steps=4, num_training_steps=STEPS)
    losses = []
    for step in range(STEPS):
        key = f"{kind}.{step}"
        chosen = torch.tensor([(step + i) % CLIPS for i in range(BATCH)])
        frames = LATENT[1] + LATENT[1] % 2
        draws = dict(
            image_noise_sigma_normal=randn(seed, key + ".s", 1),
            image_noise=randn(seed, key + ".in", BATCH, 3, 1, HEIGHT, WIDTH),
            image_posterior_noise=randn(seed, key + ".ip", BATCH, LATENT[0], 1, *LATENT[2:]),
            timesteps=torch.tensor([(step * 137 + i * 389) % 1000 for i in range(BATCH)], dtype=torch.int32),
            diffusion_noise=randn(seed, key + ".dn", BATCH, frames, LATENT[0], *LATENT[2:]),
        )
        batch = dict(encoded_videos=latents[chosen], prompt_embedding=prompts[chosen], images=images[chosen])
        loss = recipe_loss(vae, transformer, scheduler, batch, draws, ctx)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        out.update({f"{key}.{name}": value for name, value in draws.items()})
        out[f"{key}.clips"] = chosen.to(torch.int32)
    out[f"{kind}.losses"] = torch.stack(losses).to(torch.float64)
    out.update({f"{kind}.end.{name}": weight.detach().clone() for name, weight in trained.items()})


def main(path: str) -> None:
    seed = DEV["seed"]
    vae = Ctx(HERE, torch.float32).vae()
    out: dict[str, torch.Tensor] = {}
    for i in range(CLIPS):
        video = make_video(seed, f"trajectory{i}", 1, FRAMES, HEIGHT, WIDTH)
        with torch.no_grad(), noise_tape([randn(seed, f"trajectory{i}.vn", 1, *LATENT)]):
            out[f"latent.{i}"] = (vae.encode(video).latent_dist.sample() * vae.config.scaling_factor)[0]
        out[f"prompt.{i}"] = randn(seed, f"trajectory{i}.e", 6, DEV["t15"]["text_embed_dim"])
        out[f"image.{i}"] = video[0, :, 0].clone()
    for kind in ("sft", "lora"):
        train(kind, out)
    save_file({name: value.contiguous() for name, value in out.items()}, path)


if __name__ == "__main__":
    main(sys.argv[1])

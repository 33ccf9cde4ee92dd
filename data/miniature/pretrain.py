"""Trains the miniature's CLIP from a seed:  python -m data.miniature.pretrain

750 steps of 256 pairs of drawn images and captions, about 4 minutes on 2 CPU cores. Writes
data/miniature/mini_clip.npz (half precision, 2.3 MB). The numbers it prints are of the "choose" images.
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from data.miniature import suite as mini
from data.miniature.captions import caption, every_template
from data.miniature.drawings import DRAWINGS
from data.feed import Feed
from data.miniature.styles import STYLES, render
from mp.clip import tokenizer, weights
from mp.clip.model import CLIP
from mp.learners.prompts import normalize, template_features

SIZES = dict(image_size=32, patch=8, image_width=128, image_layers=3, text_width=128, text_layers=3, embed=64)
IMAGES_PER_STYLE, PHOTOS = 30, 3  # of every class; photos are three times as frequent, as on the web


def initialise(clip: CLIP, generator: torch.Generator) -> None:
    """Normal matrices scaled as in CLIP's paper; norms 1, biases 0."""
    for name, p in clip.named_parameters():
        fan_in = p[0].numel() if p.dim() > 2 else p.shape[-1] if p.dim() else 1
        if name == "logit_scale":
            nn.init.constant_(p, math.log(1 / 0.07))
        elif name.endswith("bias"):
            nn.init.zeros_(p)
        elif "ln_" in name:
            nn.init.ones_(p)
        else:
            std = {"token_embedding.weight": 0.02, "positional_embedding": 0.01}.get(name, 0.6 * fan_in**-0.5)
            nn.init.normal_(p, std=std, generator=generator)


def draw_corpus(seed: int) -> tuple[torch.Tensor, list[tuple[str, str, str]]]:
    """Images [n, 3, 32, 32] and for each (domain, class name, style)."""
    rng = np.random.default_rng([2026, mini.STREAMS.index("pretrain"), seed])
    images, about = [], []
    for domain, drawings in DRAWINGS.items():
        for name in drawings:
            for style in STYLES:
                n = IMAGES_PER_STYLE * (PHOTOS if style == "photo" else 1)
                images += [mini.Item(pixels, 0) for pixels in render(domain, name, style, n, rng)]
                about += [(domain, name, style)] * n
    return torch.cat(list(Feed(SIZES["image_size"]).plain(images))), about


@torch.no_grad()
def zero_shot(clip: CLIP, template: str | None) -> dict[str, float]:
    """Accuracy per dataset on the "choose" images; without a template, each dataset's own."""
    result = {}
    for name in mini.TABLE:
        dataset = mini.load(name, "choose")
        features = normalize(clip.encode_image(torch.cat(list(Feed(clip.visual.image_size).plain(dataset.test)))))
        text = normalize(template_features(clip, template or dataset.template, dataset.classes))
        labels = torch.tensor([item.label for item in dataset.test])
        result[name] = 100 * ((features @ text.T).argmax(-1) == labels).double().mean().item()
    return result


def train(clip: CLIP, images: torch.Tensor, about: list, steps: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng([2026, seed])
    tokens = {}
    optimizer = torch.optim.AdamW(clip.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
    started, left = time.monotonic(), np.empty(0, int)
    for step in range(1, steps + 1):
        if len(left) < batch:
            left = rng.permutation(len(images))
        chosen, left = left[:batch], left[batch:]
        captions = [caption(*about[i], rng) for i in chosen]
        for text in set(captions) - tokens.keys():
            tokens[text] = tokenizer.tokenize(text)[0]
        text = normalize(clip.encode_text(torch.stack([tokens[c] for c in captions])))
        image = normalize(clip.encode_image(images[chosen]))
        logits = clip.logit_scale.exp().clamp(max=100) * image @ text.T
        pairs = torch.arange(batch)
        loss = (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}/{steps}, loss {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=mini.WEIGHTS)
    parser.add_argument("--steps", type=int, default=750)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    clip = CLIP(**SIZES)
    initialise(clip, torch.Generator().manual_seed(args.seed))
    images, about = draw_corpus(args.seed)
    print(f"{len(images)} images of {len(set(a[:2] for a in about))} classes")
    train(clip, images, about, args.steps, 256, args.seed)

    words = {name for drawings in DRAWINGS.values() for name in drawings}
    used = {i for t in every_template() for w in words for i in tokenizer.encode(t.replace("{}", w))}
    weights.write_arrays(args.out, clip.state_dict(), [tokenizer.SOS, tokenizer.EOT, *used])
    clip = clip.eval().requires_grad_(False)
    for template in (None, "a photo of a {}.", "an image of a {}.", "a {}.", "{}."):
        result = zero_shot(clip, template)
        each = ", ".join(f"{k} {v:.0f}" for k, v in result.items())
        print(f"{template or 'own template':20s} {np.mean(list(result.values())):.1f}  ({each})")


if __name__ == "__main__":
    main()

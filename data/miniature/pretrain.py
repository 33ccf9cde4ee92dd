"""Trains the miniature's CLIP from a seed:  python -m data.miniature.pretrain

750 steps of 256 pairs of drawn images and captions, 5.3 minutes of one CPU core. Writes data/miniature/mini_clip.npz
(half precision, 2.3 MB). The numbers it prints are of the "choose" images.
"""
import argparse
import math
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.dataset import Item
from data.feed import Feed
from data.miniature import suite as mini
from data.miniature.captions import caption, choices, every_template
from data.miniature.drawings import DRAWINGS
from data.miniature.styles import STYLES, render
from mp.clip import checkpoint, tokenizer
from mp.clip.model import CLIP
from mp.learners.prompts import normalize, template_features
from mp.learners.promptsrc import TEMPLATES

SIZES = dict(image_size=32, patch=8, image_width=128, image_layers=3, text_width=128, text_layers=3, embed=64)
IMAGES_PER_STYLE, PHOTOS = 30, 3  # of every class; photos are three times as frequent, as on the web


def initialise(clip: CLIP, generator: torch.Generator) -> None:
    """Normal matrices scaled as in CLIP's paper; norms 1, biases 0."""
    spreads = {"token_embedding.weight": 0.02, "positional_embedding": 0.01}
    for name, p in clip.named_parameters():
        if name == "logit_scale":
            nn.init.constant_(p, math.log(1 / 0.07))
        elif name.endswith("bias"):
            nn.init.zeros_(p)
        elif "ln_" in name:
            nn.init.ones_(p)
        else:
            fan_in = p[0].numel() if p.dim() > 2 else p.shape[-1]
            nn.init.normal_(p, std=spreads.get(name, 0.6 * fan_in**-0.5), generator=generator)


def draw_corpus(seed: int) -> tuple[Tensor, list[tuple[str, str, str]]]:
    """Images [n, 32, 32, 3] and for each (domain, class name, style)."""
    rng = np.random.default_rng([2026, mini.STREAMS.index("pretrain"), seed])
    items, about = [], []
    for domain, drawings in DRAWINGS.items():
        for name in drawings:
            for style in STYLES:
                n = IMAGES_PER_STYLE * PHOTOS if style == "photo" else IMAGES_PER_STYLE
                items += [Item(pixels, 0) for pixels in render(domain, name, style, n, rng)]
                about += [(domain, name, style)] * n
    return views(items), about


def views(items: list[Item]) -> Tensor:
    """All test views at once, [n, 32, 32, 3]."""
    return torch.cat(list(Feed(SIZES["image_size"]).plain(items)))


@torch.no_grad()
def zero_shot(clip: CLIP, template: str | None) -> dict[str, float]:
    """Accuracy per dataset on the "choose" images, in per cent; without a template, each dataset's own."""
    result = {}
    for name in mini.TABLE:
        dataset = mini.load(name, "choose")
        image = normalize(clip.encode_image(views(dataset.test)))
        text = normalize(template_features(clip, template or dataset.template, dataset.classes))
        right = (image @ text.T).argmax(-1) == torch.tensor([item.label for item in dataset.test])
        result[name] = 100 * right.double().mean().item()
    return result


def train(clip: CLIP, images: Tensor, about: list[tuple[str, str, str]], steps: int, batch: int, seed: int) -> None:
    """CLIP's contrastive loss on batches of images and captions; every image is seen before any is seen again."""
    rng = np.random.default_rng([2026, seed])
    kinds = {(domain, style): choices(domain, style, TEMPLATES) for domain in DRAWINGS for style in STYLES}
    optimizer = torch.optim.AdamW(clip.parameters(), lr=1e-3, weight_decay=0.05, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
    started = time.monotonic()
    left = np.empty(0, int)
    for step in range(1, steps + 1):
        if len(left) < batch:
            left = rng.permutation(len(images))
        chosen, left = left[:batch], left[batch:]
        captions = []
        for domain, name, style in [about[i] for i in chosen]:
            captions.append(caption(kinds[domain, style], name, rng))
        loss = contrastive_loss(clip, images[chosen], captions)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}/{steps}, loss {loss.item():.3f}, {time.monotonic() - started:.0f} s", flush=True)


def contrastive_loss(clip: CLIP, images: Tensor, captions: list[str]) -> Tensor:
    """Return the loss of B pairs: each image [B, 32, 32, 3] should find its caption, and each caption its image."""
    text = normalize(clip.encode_text(torch.cat([tokenize(caption) for caption in captions])))
    image = normalize(clip.encode_image(images))
    logits = clip.logit_scale.exp().clamp(max=100) * image @ text.T
    pairs = torch.arange(len(captions))
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


@cache
def tokenize(caption: str) -> Tensor:
    return tokenizer.tokenize(caption)


def used_tokens() -> set[int]:
    """Token ids of every caption that can be drawn: the rows of the embedding that are trained."""
    ids = {tokenizer.SOS, tokenizer.EOT}
    names = {name for drawings in DRAWINGS.values() for name in drawings}
    for template in every_template(TEMPLATES):
        for name in names:
            ids.update(tokenizer.encode(template.replace("{}", name)))
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=mini.WEIGHTS)
    parser.add_argument("--steps", type=int, default=750)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    clip = CLIP(**SIZES)
    initialise(clip, torch.Generator().manual_seed(args.seed))
    images, about = draw_corpus(args.seed)
    print(f"{len(images)} images of {len({(domain, name) for domain, name, _ in about})} classes")
    train(clip, images, about, args.steps, 256, args.seed)
    checkpoint.write_arrays(args.out, clip.state_dict(), list(used_tokens()))

    clip = clip.eval().requires_grad_(False)
    for template in (None, "a photo of a {}.", "an image of a {}.", "a {}.", "{}."):
        accuracies = zero_shot(clip, template)
        each = ", ".join(f"{name} {accuracy:.0f}" for name, accuracy in accuracies.items())
        mean = np.mean(list(accuracies.values()))
        print(f"{template or 'own template':20s} {mean:.1f}  ({each})")


if __name__ == "__main__":
    main()

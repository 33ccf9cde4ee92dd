"""A rehearsal of the paper's suite: `python -m tests.rehearsal DIR` writes the eleven datasets in their exact layouts,
with the true numbers of classes and a few small pictures each, and random weights in the form of OpenAI's ViT-B/16.
Then it runs the commands on them that a user runs on the real ones. --small writes small pictures and weights, and is
quick; --meta writes the 16 images a class that meta-training takes, and runs three epochs of it with every method.
"""
import argparse
import io
import json
import math
import os
import random
import shlex
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

import run as program
from data import paper
from mp.clip.model import CLIP
from mp.learners import METHODS

VIT_B16 = dict(image_size=224, patch=16, image_width=768, image_layers=12, text_width=512, text_layers=12, embed=512)
SMALL = dict(image_size=32, patch=16, image_width=64, image_layers=9, text_width=64, text_layers=9, embed=32)
KINDS = ("red blue green gray white black gold tiny giant old young wild tame spotted striped curly smooth rough round "
         "square tall short bright dark pale").split()
THINGS = ("finch otter lorry teapot violin cathedral canyon pancake sandwich biplane roadster convertible tabby terrier "
          "orchid thistle lagoon quarry stadium library juggling archery rowing fencing lattice pleat swirl mesh "
          "omelette risotto falcon beetle galleon anvil compass lantern trellis harbour meadow glacier").split()
PATHS = {  # below the image folder, as in the published split files
    "Caltech101": "{name}/image_{n:04}.jpg", "EuroSAT": "{name}/{name}_{n}.jpg", "Flowers102": "image_{i:05}.jpg",
    "OxfordPets": "{name}_{n}.jpg", "UCF101": "{name}/v_{name}_g{n:02}_c01.jpg", "DTD": "{name}/{name}_{n:04}.jpg",
    "Food101": "{name}/{i}.jpg", "Stanford Cars": "cars_{part}/{i:05}.jpg", "SUN397": "{name[0]}/{name}/sun_{i:x}.jpg",
    "FGVC Aircraft": "{i:07}.jpg", "ImageNet": "{folder}/n{label:08}/{part}_{i:08}.JPEG",
}


def add_parameters(root: nn.Module, state: dict) -> None:
    """Give a module frozen parameters by these names, in modules below it that are made for them."""
    for name, value in state.items():
        module, *parents = root, *name.split(".")
        for part in parents[:-1]:
            if not hasattr(module, part):
                module.add_module(part, nn.Module())
            module = getattr(module, part)
        module.register_parameter(parents[-1], nn.Parameter(value, requires_grad=False))


def openai_archive(state: dict, path: Path, image_size: int = 32) -> None:
    """Write a TorchScript archive of the form of OpenAI's: half precision, in nested modules, with three more numbers."""
    root = nn.Module()
    add_parameters(root, {name: torch.as_tensor(value).half() for name, value in state.items()})
    for name, value in (("input_resolution", image_size), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(value))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(root).save(str(path))


def random_state(sizes: dict[str, int], seed: int = 0) -> dict[str, torch.Tensor]:
    """CLIP's parameters, of a scale that gives sensible features."""
    generator, state = torch.Generator().manual_seed(seed), {}
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in CLIP(**sizes).named_parameters()}
    for name, shape in shapes.items():
        if ".ln_" in name or name.startswith("ln_") or name.endswith("bias"):
            state[name] = torch.full(shape, float(name.endswith("weight")))
        else:
            state[name] = torch.randn(shape, generator=generator) * 0.03
    return state | {"logit_scale": torch.tensor(math.log(100))}


def picture(rng: np.random.Generator, small: bool, number: int) -> bytes:
    """A blurred scene of an odd size; now and then gray, CMYK, or a PNG with the wrong ending, as in the wild."""
    width, height = (int(x) for x in rng.integers(*((36, 80) if small else (220, 520)), size=2))
    image = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    mode = {0: "L", 1: "CMYK"}.get(number % 41, "RGB")
    data = io.BytesIO()
    image.convert(mode).save(data, "PNG" if number % 41 == 2 else "JPEG")
    return data.getvalue()


def write_dataset(name: str, root: Path, small: bool, train: int = 2, test: int = 1) -> None:
    """One dataset with its own split file, or lists, in the layout of CoOp's project."""
    row, rng = paper.TABLE[name], np.random.default_rng(list(paper.TABLE).index(name))
    names = [f"{kind} {thing}" for kind in KINDS for thing in THINGS]
    random.Random(name).shuffle(names)
    names = sorted(names[: row.counts[0]])
    folder, split, i = root / row.folder, {"train": [], "val": [], "test": []}, 0
    for part, count in (("train", train), ("test", test)):
        for label, title in enumerate(names):
            for n in range(1, count + 1):
                i += 1
                path = PATHS[name].format(name=title.replace(" ", "_"), n=n + 50 * (part == "test"), i=i, part=part,
                                          label=label, folder="val" if part == "test" else part)
                file = folder / row.images / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(picture(rng, small, i))
                split[part].append([path, label, title.replace(" ", "_")])
    if name == "ImageNet":
        text = "".join(f"n{label:08} {title}\n" for label, title in enumerate(names))
        (folder / row.labels).write_text(text)
    elif name == "FGVC Aircraft":
        (folder / row.labels).write_text("".join(f"{title}\n" for title in names))
        for part in split:
            lines = (f"{Path(path).stem} {names[label]}\n" for path, label, _ in split[part])
            (folder / f"images_variant_{part}.txt").write_text("".join(lines))
    else:
        (folder / row.labels).write_text(json.dumps(split))


def write(root: Path, small: bool, shots: int) -> Path:
    """Write all of it, with so many images of a class in the training datasets, and return the weights file."""
    if root.is_dir() and any(root.iterdir()):
        sys.exit(f"{root}: there are files in it; give a new folder")
    root.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor() as pool:
        counts = [shots if name in paper.TRAINING else 2 for name in paper.NAMES]
        list(pool.map(write_dataset, paper.NAMES, repeat(root), repeat(small), counts))
    sizes = SMALL if small else VIT_B16
    openai_archive(random_state(sizes), root / "ViT-B-16.pt", sizes["image_size"])
    return root / "ViT-B-16.pt"


def commands(root: Path, weights: Path, meta: bool) -> list[list[str]]:
    """What a user runs, with small numbers; or `meta` alone, with the paper's but for the epochs."""
    common = ["--data", str(root), "--weights", str(weights)]
    run = [*common, "--out", str(root / "runs")]
    if meta:
        return [["meta", "--method", method, "--epochs", "3", *run] for method in METHODS]
    shots = ["--shots", "2", "--support", "1", "--batch", "4", "--epochs", "1", "--datasets", "eurosat", "dtd"]
    prompt = root / "runs/paper/meta/coop-seed1-epochs1-shots2-support1-batch4/prompt.pt"
    tune = ["--shots", "2", "--epochs", "2", "--datasets", "eurosat"]
    return [
        ["data", *common, "--check"],
        ["zeroshot", *run],
        ["meta", "--method", "coop", *run, *shots],
        ["finetune", "--method", "coop", "--init", str(prompt), *run, *tune],
        ["finetune", "--method", "promptsrc", *run, *tune],
    ]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m tests.rehearsal", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder; about 0.5 GB")
    parser.add_argument("--small", action="store_true", help="tiny pictures and towers")
    parser.add_argument("--meta", action="store_true", help="meta-training at its full size; about 1 GB")
    args = parser.parse_args(arguments)
    weights = write(args.folder, args.small, 16 if args.meta else 2)
    os.environ["XDG_CACHE_HOME"] = cache = str(args.folder.resolve() / "cache")
    for command in commands(args.folder, weights, args.meta):
        print(f"\n$ XDG_CACHE_HOME={shlex.quote(cache)}", shlex.join(["python", "run.py", *command]), flush=True)
        if code := program.main(command):
            sys.exit(code)


if __name__ == "__main__":
    main()

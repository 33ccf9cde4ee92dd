"""A suite so small that every command takes a fraction of a second: tiny pictures, towers of two layers, one epoch."""
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data import paper, suite
from mp.commands import table
from mp.experiment import session
from mp.learners import METHODS
from mp.store import provenance
from tests.rehearsal import SMALL, random_state

SIZES = SMALL | dict(image_layers=2, text_layers=2)
WORDS = ["banded", "dotted", "crystal line", "woven"]


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    """Return CLIP's parameters, so large that predictions vary."""
    return {name: 6 * value if value.ndim > 1 else value for name, value in random_state(SIZES, seed).items()}


def pictures(folder: Path, names: list[str], seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (33, 40, 3), dtype=np.uint8)).save(folder / name)


def write(root: Path) -> None:
    """Three of the paper's datasets in their layouts, a folder of the user's own, and weights: root/w.pt."""
    dtd = root / "dtd"
    split = {part: [[f"{word}/{part}{i}.png", label, word] for label, word in enumerate(WORDS) for i in range(images)]
             for part, images in (("train", 3), ("val", 1), ("test", 4))}
    pictures(dtd / "images", [path for part in ("train", "test") for path, _, _ in split[part]], 0)
    (dtd / paper.TABLE["DTD"].labels).write_text(json.dumps(split))
    names = [f"{part}/n0{word}/{i}.png" for part in ("train", "val") for word in (1, 2, 3) for i in (1, 2)]
    pictures(root / "imagenet/images", names, 1)
    (root / "imagenet/classnames.txt").write_text("n01 tench\nn02 great white shark\nn03 goldfish\n")
    pictures(root / "fgvc_aircraft/images", [f"{i}.png" for i in range(4)], 2)
    for path in (root / "fgvc_aircraft/images").iterdir():
        path.rename(path.with_suffix(".jpg"))
    (root / "fgvc_aircraft/variants.txt").write_text("747-100\nA 320\n")
    (root / "fgvc_aircraft/images_variant_train.txt").write_text("0 A 320\n1 747-100\n")
    (root / "fgvc_aircraft/images_variant_test.txt").write_text("2 A 320\n3 747-100\n")
    pictures(root / "birds", [f"{name}/{i}.png" for name in ("crow", "snow_owl") for i in range(4)], 3)
    torch.save({k: v.half() for k, v in state().items()}, root / "w.pt")


def change_data(data: Path, place: Path, change: str) -> None:
    """Write the same data into another folder, the same but for one thing of DTD: a class's name, or a label."""
    shutil.copytree(data, place)
    file = place / "dtd" / paper.TABLE["DTD"].labels
    split = json.loads(file.read_text())
    for part in ("train", "test"):
        if change == "a class's name":
            split[part] = [[path, label, name.replace("woven", "knitted")] for path, label, name in split[part]]
        else:
            first, last = split[part][0], split[part][-1]
            split[part][0], split[part][-1] = [last[0], *first[1:]], [first[0], *last[1:]]
    file.unlink()
    file.write_text(json.dumps(split))


def make_small() -> None:
    """In a child: have one training task, two epochs of everything, and a commit that stays the same meanwhile."""
    def small(*args):
        whole = suite.open_suite(*args)
        return whole._replace(meta_epochs=2, training=["DTD"] if whole.name == "paper" else whole.training[:1])

    provenance.commit = lambda: "a commit"
    session.open_suite = table.open_suite = small
    for name, row in METHODS.items():
        METHODS[name] = row._replace(finetune=row.finetune | {"epochs": 2, "batch": 4})

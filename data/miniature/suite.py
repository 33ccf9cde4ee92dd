"""The embedded miniature suite: eleven drawn 32x32 datasets in the roles of the paper's Table 1.

Every dataset mixes photos with paintings and negatives, for which "a photo of a" is the wrong
context; a prompt that isn't tied to photos helps on all of them, the held-out ones too. That effect
is built into this world, so its numbers show that the method works, not how well it works elsewhere.

Images come from four streams of random numbers that share nothing: "pretrain" for the miniature's
CLIP, "train" for the few-shot images, "choose" for design decisions, "test" for reported accuracies.
"""
import hashlib
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np

from data.dataset import Dataset, Item
from data.errors import DataError
from data.miniature.captions import DOMAIN_CAPTIONS
from data.miniature.drawings import DRAWINGS
from data.miniature.styles import render

WEIGHTS = Path(__file__).with_name("mini_clip.npz")
CACHE = Path(__file__).with_name("__pycache__")  # as for what Python compiles: it follows from the files beside it
STREAMS = ("pretrain", "train", "choose", "test")
TRAIN_IMAGES, TEST_IMAGES = 40, 50  # a class
META_EPOCHS = 50  # fixed on the "choose" images
SHARED_STYLES = ("painting", "negative")

# name, role, and the styles beside the shared ones; in Table 2's order of the datasets they stand for
TABLE = {
    "objects": ("train", ("photo", "sketch")),     # Caltech101
    "satellite": ("train", ("photo", "blurry")),   # EuroSAT
    "aircraft": ("train", ("gray", "small")),      # FGVC Aircraft
    "flowers": ("train", ("cropped", "photo")),    # Flowers102
    "pets": ("train", ("photo", "dark")),          # Oxford Pets
    "actions": ("train", ("sketch", "dark")),      # UCF101
    "textures": ("test", ("gray", "noisy")),       # DTD
    "food": ("test", ("noisy", "blurry")),         # Food101
    "general": ("test", ("photo", "gray")),        # ImageNet
    "cars": ("test", ("dark", "noisy")),           # Stanford Cars
    "scenes": ("test", ("photo", "blurry")),       # SUN397
}
TRAINING = [name for name, (role, _) in TABLE.items() if role == "train"]


@cache
def load(name: str, test_stream: str = "test") -> Dataset:
    """Draw one dataset: 40 images a class for training, 50 for testing. Raises DataError for an unknown name."""
    if name not in TABLE:
        raise DataError(f"no dataset {name!r} in the miniature; it has {', '.join(TABLE)}")
    train = recall(name, TRAIN_IMAGES, "train")
    test = recall(name, TEST_IMAGES, test_stream)
    return Dataset(name, DOMAIN_CAPTIONS[name][0], list(DRAWINGS[name]), items_of(train), items_of(test))


def items_of(drawings: np.ndarray) -> list[Item]:
    """Return the images [classes, images, 32, 32, 3], labelled with the numbers of their classes."""
    return [Item(pixels, label) for label, of_class in enumerate(drawings) for pixels in of_class]


def recall(name: str, images: int, stream: str) -> np.ndarray:
    """Return what `draw` does, from CACHE if it is there; else it is drawn, and put there if that can be done.

    Drawing the suite takes as long as everything else of a command that finds its results there. A file's name tells
    what it depends on, and its checksum whether it is whole, even if another process is writing it.
    """
    path = CACHE / f"{name}-{stream}-{sources()}.npz"
    try:
        with np.load(path, allow_pickle=False) as file:
            return file["pixels"]
    except Exception:  # it isn't there, or is damaged: there is nothing that damaged bytes don't raise
        pixels = draw(name, images, stream)
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        np.savez(path, pixels=pixels)
    return pixels


@cache
def sources() -> str:
    """Return 16 hex digits of all that the drawings depend on: NumPy, and the files of this folder."""
    digest = hashlib.sha256(np.__version__.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def draw(name: str, images: int, stream: str) -> np.ndarray:
    """Draw so many images of every class, each in a random one of the styles: uint8 [classes, images, 32, 32, 3]."""
    styles = SHARED_STYLES + TABLE[name][1]
    rng = np.random.default_rng([2026, STREAMS.index(stream), list(TABLE).index(name)])
    drawings = []
    for word in DRAWINGS[name]:
        counts = rng.multinomial(images, [1 / len(styles)] * len(styles))
        drawn = np.concatenate([render(name, word, style, n, rng) for style, n in zip(styles, counts)])
        drawings.append(drawn[rng.permutation(images)])
    return np.stack(drawings)

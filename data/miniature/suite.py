"""The embedded miniature suite: eleven drawn 32x32 datasets in the roles of the paper's Table 1.

Every dataset mixes photos with paintings and negatives, for which "a photo of a" is the wrong
context; a prompt that isn't tied to photos helps on all of them, the held-out ones too. That effect
is built into this world, so its numbers show that the method works, not how well it works elsewhere.

Images come from four streams of random numbers that share nothing: "pretrain" for the miniature's
CLIP, "train" for the few-shot images, "choose" for design decisions, "test" for reported accuracies.
"""
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np

from data.dataset import Dataset, Item
from data.errors import DataError
from data.miniature.captions import DOMAIN_CAPTIONS
from data.miniature.drawings import DRAWINGS
from data.miniature.styles import render

WEIGHTS = Path(__file__).with_name("mini_clip.npz")
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
    styles = SHARED_STYLES + TABLE[name][1]
    with ThreadPoolExecutor() as pool:  # NumPy draws outside Python's lock
        train = pool.submit(draw, name, styles, TRAIN_IMAGES, "train")
        test = pool.submit(draw, name, styles, TEST_IMAGES, test_stream)
    return Dataset(name, DOMAIN_CAPTIONS[name][0], list(DRAWINGS[name]), train.result(), test.result())


def draw(name: str, styles: tuple[str, ...], images: int, stream: str) -> list[Item]:
    """`images` of every class, uint8 [32, 32, 3], each in a random one of the styles."""
    rng = np.random.default_rng([2026, STREAMS.index(stream), list(TABLE).index(name)])
    items = []
    for label, word in enumerate(DRAWINGS[name]):
        counts = rng.multinomial(images, [1 / len(styles)] * len(styles))
        drawn = np.concatenate([render(name, word, style, n, rng) for style, n in zip(styles, counts)])
        items += [Item(pixels, label) for pixels in drawn[rng.permutation(images)]]
    return items

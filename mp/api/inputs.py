"""Check what scripts hand in, and turn images into views."""
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from data.errors import DataError, reason
from data.feed import Feed, in_order
from data.images import crop_centre, read
from data.names import check_names, name_notes
from mp.clip.model import CLIP
from mp.learners.prompts import unknown_names
from mp.runtime.errors import UserError
from mp.runtime.progress import say_once

Picture = Image.Image | np.ndarray | str | Path


def check_clip(clip: CLIP) -> None:
    """Raise UserError for something else, such as the name of a file, and for tensors that no gradient can pass."""
    if not isinstance(clip, CLIP):
        raise UserError(f"clip: {type(clip).__name__}; give what `load_clip` returns")
    if any(p.is_inference() for p in clip.parameters()):
        raise UserError("clip: copied or moved in torch's inference mode, so that nothing can be learnt with it; give "
                        "what `load_clip` returns")


def check(clip: CLIP, images: Sequence[Picture], names: Sequence[str], where: str = "") -> None:
    """Raise UserError for what is wrong with images and class names; say which names mean nothing to this CLIP."""
    if not is_list(names) or len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where}class names {repr(names)[:80]}; give a list of two or more words, each a str")
    try:
        check_names(list(names), f"{where}class names")
    except DataError as e:
        raise UserError(str(e)) from None
    for note in name_notes(list(names)):
        say_once(f"{where}{note}")
    is_one_array = isinstance(images, np.ndarray) and images.ndim != 4
    if not is_list(images) or is_one_array or not len(images):
        raise UserError(f"{where}images: {type(images).__name__}; give a list of one or more")
    if unknown := unknown_names(clip, names):
        say_once(unknown)


def check_labels(labels: Sequence[int], images: Sequence[Picture], names: Sequence[str], where: str = "") -> None:
    """Raise UserError for labels that don't belong to these images and names, which are good."""
    if not is_list(labels) or getattr(labels, "ndim", 1) != 1:
        raise UserError(f"{where}labels: {type(labels).__name__}; give a list of an index for each image")
    if len(images) != len(labels):
        raise UserError(f"{where}{len(images)} images for {len(labels)} labels; give one for each")
    for i, label in enumerate(labels):
        if not is_index(label, len(names)):
            raise UserError(f"{where}labels[{i}] is {label}; give an index of a class name, 0 to {len(names) - 1}")


def is_index(label: Any, count: int) -> bool:
    if getattr(label, "ndim", 0) or isinstance(label, complex):
        return False
    try:
        return label in range(count)
    except RuntimeError:  # a tensor without numbers
        return False


def check_path(path: str | Path) -> None:
    """Raise UserError for something else than a file's name, and for a name that no file can have, or none that can be
    reached."""
    if not isinstance(path, (str, Path)):
        raise UserError(f"path: {type(path).__name__}; give a prompt file's name")
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):  # of which others say more
        pass
    except (OSError, ValueError) as e:
        raise UserError(f"{str(path)!r}: {reason(e)}; give another file's name") from None


def is_list(value: Any) -> bool:
    """Tell whether entries can be looked at by number, and again: not those of a generator, a set, a dict, an image."""
    return hasattr(value, "__getitem__") and hasattr(value, "__len__") and not isinstance(value, (str, bytes, Mapping))


def feed_of(clip: CLIP) -> Feed:
    return Feed(clip.visual.image_size, clip.logit_scale.device)


def plain_views(clip: CLIP, images: Sequence[Picture], where: str = "") -> Iterator[Tensor]:
    """Yield views as at test time, [B, size, size, 3], some at a time."""
    feed = feed_of(clip)

    def view(i: int) -> np.ndarray:
        return np.asarray(crop_centre(opened(images[i], f"{where}images[{i}]"), feed.size))

    # An image may be there twice, and Pillow opens it when it is first looked at: that isn't for two threads.
    threads = feed.workers if all(isinstance(image, (str, Path)) for image in images) else 0
    views = in_order(view, range(len(images)), threads)
    yield from feed.batches(views)


def opened(image: Picture, place: str) -> Image.Image:
    """Return the image in RGB. Raises UserError naming the place if it can't be used."""
    try:
        return read(image)
    except Exception as e:  # there is nothing that damaged bytes don't raise in some decoder
        name = f"{place}, {image}" if isinstance(image, (str, Path)) else place
        raise UserError(f"{name}: can't be used ({reason(e)}); give a PIL image of 8 bits, uint8 pixels "
                        "[height, width, 3], or a file's name") from None

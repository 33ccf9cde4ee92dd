"""Image features of frozen CLIP, kept in the cache folder from run to run.

Nothing in that folder is trusted: a file that is damaged or belongs to something else is made anew.
"""
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import PIL
import torch
from torch import Tensor

from mp.runtime import torchfile
from mp.runtime.errors import UserError
from mp.runtime.files import cache_folder
from mp.runtime.progress import say
from mp.store.cells import shortened

ROOT = Path(__file__).parents[2]
CODE = ("data/images.py", "mp/clip/model.py", "mp/clip/attention.py")  # that features come from: an edit makes others


def recall(depends_on: list[Any], dataset: str, images: Sequence[str], width: int,
           compute: Callable[[], Tensor]) -> Tensor:
    """Return features [number of image files, width]: from the cache if they are there, whole and finite; else by
    `compute`. `depends_on`: weights, machine and images, as JSON takes them.

    Raises OSError if an image isn't there.
    """
    path = cache_file(depends_on, dataset, images)
    try:
        features = torchfile.load(path)
    except (OSError, MemoryError, ValueError):
        features = None
    if not torchfile.mismatch(features, torch.empty(len(images), width, device="meta")):
        return features
    features = compute()
    try:
        torchfile.write(path, features.cpu())
    except UserError as e:
        say(f"{dataset}: the features are computed again next time: {e}")
    return features


def cache_file(depends_on: list[Any], dataset: str, images: Sequence[str]) -> Path:
    """Return a name that has all in it that the features depend on; the images' times of change count, too, as this
    file is never asked for by name."""
    digest = hashlib.sha256(json.dumps([torch.__version__, PIL.__version__, depends_on]).encode())
    for file in CODE:
        digest.update((ROOT / file).read_bytes())
    for image in images:
        digest.update(str(os.stat(image).st_mtime_ns).encode())
    return cache_folder() / "features" / f"{shortened(dataset)}-{digest.hexdigest()[:32]}.pt"

"""Image features of frozen CLIP, kept in the cache folder from run to run.

Nothing in that folder is trusted: a file that is damaged or belongs to something else is made anew.
"""
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import PIL
import torch
from torch import Tensor

from mp.runtime import tensors, torchfile
from mp.runtime.errors import UserError
from mp.runtime.files import cache_folder
from mp.runtime.progress import say
from mp.store.identity import Identity, stored
from mp.store.results import file_name

VIEWS = 2  # changes with data/images.py: other views of the same images have other features


def recall(identity: Identity, dataset: str, images: Sequence[str], width: int,
           compute: Callable[[], Tensor]) -> Tensor:
    """Features [number of image files, width]: from the cache if they are there, whole and finite; else by `compute`.

    Raises OSError if an image isn't there.
    """
    path = cache_file(identity, dataset, images)
    try:
        found = torchfile.load(path)
    except (OSError, MemoryError, ValueError):
        found = None
    if not tensors.mismatch(found, torch.empty(len(images), width, device="meta")):
        return found
    found = compute()
    try:
        tensors.write(path, found.cpu())
    except UserError as e:
        say(f"{dataset}: the features are computed again next time: {e}")
    return found


def cache_file(identity: Identity, dataset: str, images: Sequence[str]) -> Path:
    """Named after all that the features depend on; the images' times of change count, too, as this file is never asked
    for by name."""
    made_by = [VIEWS, torch.__version__, PIL.__version__, stored("features", identity)]
    digest = hashlib.sha256(json.dumps(made_by).encode())
    for image in images:
        digest.update(str(os.stat(image).st_mtime_ns).encode())
    return cache_folder() / "features" / f"{file_name(dataset)}-{digest.hexdigest()[:32]}.pt"

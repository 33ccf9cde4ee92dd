"""Listings of folders, kept from one run to the next: ImageNet's 1.28 million names take long on a network disk."""
import os
import time
from pathlib import Path

from data.dataset import DataError
from mp.store import cache

Listing = tuple[list[str], list[str]]  # names of folders and of files, sorted, without hidden ones


def list_files(folders: list[Path]) -> list[Listing]:
    """The listing of each folder. One that hasn't changed since the last time, by its time stamp, isn't read again.

    Raises DataError naming a folder that can't be read.
    """
    path = cache.folder() / "listings" / f"{cache.digest(*map(str, folders))[:16]}.json"
    kept, now, changed = cache.read_dict(path), {}, False
    for folder in map(str, folders):
        try:
            stamp = os.stat(folder).st_mtime_ns
            entry = kept.get(folder)
            if not is_listing(entry, stamp):
                with os.scandir(folder) as entries:
                    named = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
                entry = [stamp, [n for n, is_dir in named if is_dir], [n for n, is_dir in named if not is_dir]]
                changed = True
        except OSError as e:
            raise DataError(f"{e.filename or folder}: not a readable folder ({e.strerror}); mend or remove it") from None
        now[folder] = entry
    # Time stamps are coarse: what changed a moment ago could change again without a new one.
    if changed and len(folders) > 1 and all(time.time_ns() - entry[0] > 2e9 for entry in now.values()):
        cache.keep(path, now)
    return [(entry[1], entry[2]) for entry in now.values()]


def is_listing(entry, stamp: int) -> bool:
    """Whether what was kept is the listing of a folder with this time stamp: plain names, nothing outside it."""
    return (isinstance(entry, list) and len(entry) == 3 and entry[0] == stamp
            and all(isinstance(names, list) and all(isinstance(n, str) and n[:1] != "." and "/" not in n for n in names)
                    for names in entry[1:]))

"""What a folder holds."""
import os
from pathlib import Path

from data.errors import DataError


def list_folder(folder: Path) -> tuple[list[str], list[str]]:
    """Names of the folders and of the files in it, each sorted, without hidden ones. A link is what it leads to.

    Raises DataError naming a folder that can't be read.
    """
    folders, files = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                names = folders if entry.is_dir() else files
                names.append(entry.name)
    except OSError as e:
        where = e.filename or folder
        raise DataError(f"{where}: not a readable folder ({e.strerror}); mend or remove it") from None
    return sorted(folders), sorted(files)

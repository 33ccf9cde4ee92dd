"""Files that appear whole or not at all, one process at a time; and the folder of what can be made again."""
import glob
import hashlib
import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from mp.runtime.errors import UserError, reason
from mp.runtime.progress import say, say_once


def cache_folder() -> Path:
    """Return $XDG_CACHE_HOME/meta-prompts, or ~/.cache/meta-prompts, which may be deleted at any time.

    Raises UserError if the user has no home folder.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.expanduser("~/.cache")
    if not os.path.isabs(base):
        raise UserError("this user has no home folder; set XDG_CACHE_HOME to a folder that can be written")
    return Path(base) / "meta-prompts"


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Call `write` with a temporary name beside `path`, then rename it, so that a reader never sees half a file.

    What is no file, such as /dev/stdout, is written to. Raises UserError if the folder can't be written or the disk is
    full; an older file stays intact.
    """
    temporary = None
    try:
        if path.is_dir():
            raise UserError(f"{path}: can't be written (Is a directory); give a file's name, or move that folder away")
        if path.exists() and not path.is_file():
            write(path)
            return
        target = path.resolve() if path.is_file() else path  # a link stays one
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        temporary = target.parent / f".{target.name}.{platform.node()}-{os.getpid()}.part"
        write(temporary)
        os.replace(temporary, target)
    except (OSError, RuntimeError) as e:  # torch.save reports a full disk as RuntimeError
        why = reason(e) if isinstance(e, OSError) else "the disk may be full"
        raise UserError(f"{path}: can't be written ({why}); free some space or choose another place") from None
    finally:
        if temporary:
            with suppress(OSError):
                temporary.unlink()


def sweep(path: Path) -> None:
    """Remove the unfinished files of processes of this machine that were killed while they wrote the file."""
    if os.name != "posix":  # elsewhere os.kill would end a process that is alive
        return
    for unfinished in path.parent.glob(glob.escape(f".{path.name}.{platform.node()}-") + "*.part"):
        try:
            os.kill(int(unfinished.stem.rpartition("-")[2]), 0)  # is its process alive?
        except ProcessLookupError:
            unfinished.unlink(missing_ok=True)
        except (ValueError, OverflowError, PermissionError):
            pass


def discard(path: Path) -> None:
    """Remove the file, if it is there, and unfinished ones of processes that were killed."""
    path.unlink(missing_ok=True)
    sweep(path)


def write_json(path: Path, value) -> None:
    """Write the value as JSON. Raises what `write_whole` does."""
    text = json.dumps(value, indent=1) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal. Raises OSError if the file can't be read."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def locked(path: Path, advice: str = "choose another --out") -> Iterator[None]:
    """Let one process at a time do something; the others wait. The system frees the lock of a process that dies.

    Raises UserError with the advice if the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "w")
    except OSError as e:
        raise UserError(f"{path.parent}: can't be written ({reason(e)}); {advice}") from None
    with lock:
        take(lock, path.parent)
        yield


def take(lock: TextIO, folder: Path) -> None:
    """Wait for the lock, and say so; or say that there is none, as on Windows and some networks' file systems."""
    try:
        import fcntl
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{folder}: another process is at work there; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
    except (ImportError, OSError) as e:
        say_once(f"files can't be locked here ({reason(e)}): two commands at a time may do the same work twice; files "
                 "are whole all the same")

"""Fetch OpenAI's weights once: resume where the connection broke, and use them only if the SHA-256 is right."""
import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from mp.runtime import files
from mp.runtime.errors import UserError, reason
from mp.runtime.progress import Progress

SHA256 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
URL = f"https://openaipublic.azureedge.net/clip/models/{SHA256}/ViT-B-16.pt"
MB = 10**6
TRIES = 3  # in a row that bring nothing


def openai_path() -> Path:
    return files.cache_folder() / "ViT-B-16.pt"


def openai_weights() -> Path:
    """Return the file of OpenAI's ViT-B/16 in the cache folder; fetch it if it isn't there or is damaged."""
    path = openai_path()
    fetch(URL, SHA256, path)
    return path


def fetch(url: str, sha256: str, path: Path, pause: float = 1.0) -> None:
    """Bring `url` to `path`, unless what is there is right already. `pause`: seconds before another try.

    What has arrived waits in `path`.part for the next try, in this run or a later one. Raises UserError that
    gives the URL, the hash, and where to put the file by hand.
    """
    if is_right(path, sha256):
        return
    by_hand = f"To do it by hand, fetch {url} (SHA-256 {sha256}) and put it at {path}, or give it as --weights FILE"
    partial = path.with_name(path.name + ".part")
    try:
        with files.locked(path.with_name(path.name + ".lock"), f"set XDG_CACHE_HOME. {by_hand}"):
            if is_right(path, sha256):  # thanks to another run that started at the same time
                return
            receive(url, partial, pause)
            received = files.sha256(partial)
            if received != sha256:
                partial.unlink()
                raise UserError(f"{url} gave a file with SHA-256 {received}; it isn't used. {by_hand}")
            partial.replace(path)
    except (ConnectionError, urllib.error.HTTPError) as e:
        mb = size(partial) // MB
        hint = f"; the first {mb} MB are kept, and the same command goes on" if mb else ""
        raise UserError(f"{url} can't be fetched ({reason(e)}){hint}. {by_hand}") from None
    except OSError as e:
        raise UserError(f"{path}: can't be written ({reason(e)}); free some space, or set XDG_CACHE_HOME to "
                        f"another folder. {by_hand}") from None


def is_right(path: Path, sha256: str) -> bool:
    return path.is_file() and files.sha256(path) == sha256


def receive(url: str, partial: Path, pause: float) -> None:
    """Append to `partial` what it lacks, trying again as long as tries bring something. Raises as `blocks` does."""
    progress = Progress(f"fetching {url.rpartition('/')[2]}, MB")
    fruitless = 0
    while True:
        before = size(partial)
        try:
            for start, block, total in blocks(url, before):
                with open(partial, "ab" if start else "wb") as f:
                    f.write(block)
                have = start + len(block)
                more = have < total  # perhaps by less than a MB
                progress.update(have // MB, total // MB + more, new=len(block) / MB)
            return
        except ConnectionError:
            fruitless = 0 if size(partial) > before else fruitless + 1
            if fruitless == TRIES:
                raise
        time.sleep(pause)


def blocks(url: str, start: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield what `url` holds from byte `start` on, or from 0 if the server knows no ranges, in blocks: where it begins,
    its bytes, and the length of all. Raises ConnectionError if another try may bring more, HTTPError if it won't."""
    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            if response.status != 206:
                start = 0
            total = start + int(response.headers.get("Content-Length") or 0)
            while block := response.read(MB):
                yield start, block, max(total, start + len(block))
                start += len(block)
    except urllib.error.HTTPError as e:
        if e.code == 416 and start:  # nothing lies beyond what is here: it is whole, or the hash will tell
            return
        if e.code < 500:
            raise
        raise ConnectionError(reason(e)) from None
    except (OSError, http.client.HTTPException) as e:
        raise ConnectionError(reason(e)) from None
    if start < total or not start:
        raise ConnectionError("the connection broke off")


def size(path: Path) -> int:
    """Return a file's bytes; 0 if there is no such file."""
    return path.stat().st_size if path.is_file() else 0

"""Fetch OpenAI's weights once, and use them only if their SHA-256 is right."""
import http.client
import math
import urllib.request
from pathlib import Path

from mp.runtime import files
from mp.runtime.errors import UserError, reason
from mp.runtime.progress import Progress

SHA256 = "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f"
URL = f"https://openaipublic.azureedge.net/clip/models/{SHA256}/ViT-B-16.pt"
MB = 10**6


def openai_path() -> Path:
    return files.cache_folder() / "ViT-B-16.pt"


def openai_weights() -> Path:
    """Return the file of OpenAI's ViT-B/16 in the cache folder; fetch it if it isn't there or is damaged."""
    path = openai_path()
    fetch(URL, SHA256, path)
    return path


def fetch(url: str, sha256: str, path: Path) -> None:
    """Bring `url` to `path`, unless the right file is there already.

    Raises UserError that gives the URL, the hash, and where to put the file by hand.
    """
    if is_right(path, sha256):
        return
    by_hand = f"To do it by hand, fetch {url} (SHA-256 {sha256}) and put it at {path}, or give it as --weights FILE"
    with files.locked(path.with_name(path.name + ".lock"), f"set XDG_CACHE_HOME. {by_hand}"):
        if is_right(path, sha256):  # thanks to another run that started at the same time
            return
        try:
            files.write_whole(path, lambda part: receive(url, sha256, part))
        except UserError as e:
            raise UserError(f"{e}. {by_hand}") from None


def is_right(path: Path, sha256: str) -> bool:
    return path.is_file() and files.sha256(path) == sha256


def receive(url: str, sha256: str, part: Path) -> None:
    """Write what `url` holds to the file `part`. Raises UserError if it can't be had, or isn't what it should be."""
    progress, received = Progress(f"fetching {url.rpartition('/')[2]}, MB"), 0
    try:
        with urllib.request.urlopen(url, timeout=30) as response, open(part, "wb") as file:
            total = int(response.headers.get("Content-Length") or 0)
            while block := response.read(MB):
                file.write(block)
                received += len(block)
                progress.update(math.ceil(received / MB), math.ceil(max(total, received) / MB))
        if received < total or not received:
            raise ConnectionError("the connection broke off")
    except (OSError, http.client.HTTPException) as e:
        raise UserError(f"{url} can't be fetched ({reason(e)}); the same command starts it again") from None
    received_hash = files.sha256(part)
    if received_hash != sha256:
        raise UserError(f"{url} gave a file with SHA-256 {received_hash}; it isn't used")

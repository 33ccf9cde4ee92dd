"""OpenAI's weights, fetched once: resumed where the connection broke, and used only if the SHA-256 is right."""
import http.client
import time
import urllib.error
import urllib.request
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
    """The file of OpenAI's ViT-B/16 in the cache folder, fetched if it isn't there or is damaged."""
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
    lock = path.with_name(path.name + ".lock")
    try:
        with files.locked(lock, f"set XDG_CACHE_HOME. {by_hand}"):
            if not is_right(path, sha256):  # two runs that start together fetch it once
                fetch_alone(url, sha256, path, pause, by_hand)
    except OSError as e:
        raise UserError(f"{path}: can't be written ({reason(e)}); free some space, or set XDG_CACHE_HOME to "
                        f"another folder. {by_hand}") from None


def is_right(path: Path, sha256: str) -> bool:
    return path.is_file() and files.sha256(path) == sha256


def fetch_alone(url: str, sha256: str, path: Path, pause: float, by_hand: str) -> None:
    """Raises UserError if the connection or what it brought is no good, OSError if the disk isn't."""
    partial = path.with_name(path.name + ".part")
    try:
        receive_all(url, partial, pause)
    except (OSError, http.client.HTTPException) as e:
        names_a_file = getattr(e, "filename", None) and not isinstance(e, urllib.error.HTTPError)  # HTTP's names the URL
        if names_a_file:
            raise
        mb = size(partial) / MB
        kept = f"; the first {mb:.0f} MB are kept, and the same command goes on" if mb else ""
        raise UserError(f"{url} can't be fetched ({reason(e)}){kept}. {by_hand}") from None
    found = files.sha256(partial)
    if found != sha256:
        partial.unlink()
        raise UserError(f"{url} gave a file with SHA-256 {found}; it isn't used. {by_hand}")
    partial.replace(path)


def receive_all(url: str, partial: Path, pause: float) -> None:
    """Receive until `partial` is whole. Raises what the last of several fruitless tries raised."""
    progress = Progress(f"fetching {url.rpartition('/')[2]}, MB", first=size(partial) // MB)
    fruitless = 0
    while True:
        before = size(partial)
        try:
            if receive(url, partial, progress):
                return
            error: Exception = ConnectionError("the connection broke off")
        except urllib.error.HTTPError as e:
            if e.code == 416 and before:  # nothing lies beyond what is here: it is whole, or the hash will tell
                return
            if e.code < 500:
                raise
            error = e
        except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as e:
            error = e
        fruitless = 0 if size(partial) > before else fruitless + 1
        if fruitless == TRIES:
            raise error
        time.sleep(pause)


def receive(url: str, partial: Path, progress: Progress) -> bool:
    """Append to `partial` what it lacks, as far as the connection holds; whether it is whole now."""
    have = size(partial)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=30) as response:
        if response.status != 206:  # the server starts from the beginning
            have = 0
        total = have + int(response.headers.get("Content-Length") or 0)
        with open(partial, "ab" if have else "wb") as f:
            while block := response.read(MB):
                try:
                    f.write(block)
                    f.flush()
                except OSError as e:
                    e.filename = str(partial)  # tells a full disk from a broken connection
                    raise
                have += len(block)
                unfinished = have < total  # less than a MB may be missing: it mustn't look done
                progress.update(have // MB, max(total, have) // MB + unfinished)
    return have >= total


def size(path: Path) -> int:
    """In bytes; 0 if there is no such file."""
    return path.stat().st_size if path.is_file() else 0

"""Where files lie below --out, and when one is used again.

The name of a file, or of a meta-prompt's folder, ends in a digest of everything that the content depends on but this
code, its `Identity`. So a file is used again if, and only if, it is there under the name that a command asks for,
undamaged, and no state of this device and precision lies beside it, which is newer. What differs in anything has
another name, so that nothing can be mixed, and commands that compute have nothing to compare. `--force` makes anew what
a command writes, never what it reads.

A state goes on if it is of the same identity, device and precision, and has as many epochs as its log; it goes when the
meta-prompt, or the accuracies of the fine-tuned prompt, are written. Commands that don't know all digits, as `table`
without --run and `--prompt meta`, take the one file that agrees in what is known, and refuse two; they don't train, so
they take it, and say so, beside a state, too.

Below --out, for each suite:   (METHOD-… are words for the reader: the method, and what is unusual; DIGITS the digest)

    meta/METHOD-seedN-…-DIGITS/   prompt.pt, log.jsonl (a line an epoch), settings.json; state-….pt of an unfinished run
    zeroshot/WORDS/DATASET-seedN-DIGITS.json                     accuracies of a prompt as it is
    finetune/METHOD-INIT-CLASSES-…/DATASET-seedN-DIGITS.json     accuracies of a fine-tuned prompt
                                   DATASET-seedN-DIGITS.prompt.pt     the prompt: its digits leave the test images out
                                   DATASET-seedN-DIGITS.state-….pt    of an unfinished run
"""
import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from mp.runtime import files
from mp.runtime.errors import DAMAGE, RunError, UserError, printable, reason
from mp.runtime.progress import say
from mp.settings import PARTS, with_harmonic_mean

FORMAT = 5    # raised by hand when files of the same identity mean something else than before
DIGITS = 12   # of a digest, in a file's name
ENDINGS = (".json", ".prompt.pt")  # of results and of fine-tuned prompts; folders have none
LONGEST = 100  # bytes of the words in a file's name, which systems limit; the digest covers what is cut off


@dataclass(frozen=True)
class Identity:
    """Everything that a file's content depends on; None for what plays no part in it.

    What can't matter, or only by rounding, isn't here: --memory, --workers, the number of processes and threads, --out,
    the device, the versions of torch, Pillow and Python. Nor is this code: whoever changes a learner or a loop gives
    --force or another --out; the provenance in each file tells the commit.
    """
    weights: str    # SHA-256 of CLIP's weights file
    precision: str  # as --precision says it, "auto" included: a GPU's results are a laptop's
    prompt: str     # the words or the fingerprint of what is tested or trained from; or "handcrafted": a method's start
    settings: dict[str, Any] | None = None    # those that play a part, as mp/learners/settings.py's `hashed` gives them
    trained_on: dict[str, str] | None = None  # datasets, and the fingerprints of the images drawn from them
    tested_on: dict[str, str] | None = None   # the dataset, and the fingerprint of its test images
    meta: dict[str, Any] | None = None        # the identity of the meta-prompt that `prompt` is the fingerprint of
    format: int = FORMAT

    @property
    def digits(self) -> str:
        return digits_of(asdict(self))


def digits_of(identity: dict[str, Any]) -> str:
    """Return the digest of an identity as files hold it, in hexadecimal."""
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


# Names

def name_of(words: str, identity: Identity, ending: str = "") -> str:
    return f"{shortened(words)}-{identity.digits}{ending}"


def shortened(words: str) -> str:
    """Return words as a part of a file's name: without spaces and slashes, and at most LONGEST bytes."""
    plain = re.sub(r"[\s/\\]", "", words)
    return os.fsencode(plain)[:LONGEST].decode(errors="ignore")


def siblings(folder: Path, words: str, ending: str = "") -> list[Path]:
    """Return all files or folders whose names have these words and this ending, with any digits between."""
    pattern = re.compile(re.escape(words) + f"-[0-9a-f]{{{DIGITS}}}" + re.escape(ending))
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [folder / name for name in names if pattern.fullmatch(name)]


def split_name(path: Path) -> tuple[str, str]:
    """Return the words and the ending of a name such as pets-seed1-0123456789ab.prompt.pt; digits may be left out."""
    ending = next((ending for ending in ENDINGS if path.name.endswith(ending)), "")
    return re.sub(f"-[0-9a-f]{{{DIGITS}}}$", "", path.name.removesuffix(ending)), ending


def complete(path: Path) -> Path:
    """Return the path with the digits that its parts' names lack: of runs/mini/meta/coop-seed1/prompt.pt the file in
    coop-seed1-0123456789ab. A path that is there, and one that can't be completed, stay as they are.

    Raises UserError where several would fit.
    """
    if path.exists():
        return path
    whole = Path(path.anchor)
    for part in path.relative_to(path.anchor).parts:
        step = whole / part
        fitting = [] if step.exists() else siblings(whole, *split_name(step))
        if len(fitting) > 1:
            raise UserError(f"{step}: several begin so: {', '.join(other.name for other in fitting)}; give one whole")
        whole = fitting[0] if fitting else step
    return whole if whole.exists() else path


# What differs

def differences(there: Any, wanted: Any, name: str = "") -> list[str]:
    """Return the places in which two identities differ.

    >>> differences({"settings": {"lr": 1}, "prompt": "x"}, {"settings": {"lr": 2}, "prompt": "x"})
    ['settings.lr']
    """
    if not (isinstance(there, dict) and isinstance(wanted, dict)):
        return [] if there == wanted else [name]
    places = []
    for key in there | wanted:
        inner = f"{name}.{key}" if name else str(key)
        places += differences(there.get(key), wanted.get(key), inner)
    return places


def nearest(path: Path, identity: Identity) -> str:
    """Return in what the nearest result or meta-prompt's folder of the same words differs from `identity`; "" without
    one."""
    options = []
    for other in siblings(path.parent, *split_name(path)):
        there = identity_at(other)
        if isinstance(there, dict):
            options.append(differences(there, asdict(identity)))
    if not options:
        return ""
    places = min(options, key=len)
    more = f" and {len(places) - 3} more" if len(places) > 3 else ""
    return printable(", ".join(places[:3]) + more)


def identity_at(path: Path) -> Any:
    """Return the identity that a result, or settings.json in a meta-prompt's folder, states; None if there is none."""
    file = path / "settings.json" if path.is_dir() else path
    try:
        return json.loads(file.read_text(encoding="utf-8"))["identity"]
    except DAMAGE:
        return None


# Results

class Result(NamedTuple):
    """A result file and its content: "accuracies" by part, "identity", "provenance", and more."""
    path: Path
    content: dict[str, Any]

    @property
    def accuracies(self) -> dict[str, float]:
        return self.content["accuracies"]

    @property
    def identity(self) -> dict[str, Any]:
        return self.content["identity"]


def result(path: Path, identity: Identity, provenance: dict[str, Any], compute: Callable[[], dict[str, Any]],
           force: bool = False, state: Path | None = None) -> Result:
    """Return the result in `path`; computed by `compute`, whose dict has "accuracies", if it isn't there.

    `state`: the file that an interrupted computation leaves. While it is there it is newer than a result beside it, and
    goes once the new result is written. A second process that wants the same result waits for the first. Damaged
    content is set aside and computed again.
    """
    with files.locked(path.with_name(f".{path.stem}.lock")):
        there = read(path)
        if there and not force and not (state and state.exists()):
            return there
        if path.exists() and not there:
            set_aside(path)
        started = time.monotonic()
        content = compute()
        accuracies = content["accuracies"]
        if not all(math.isfinite(value) for value in accuracies.values()):
            raise RunError(f"accuracies {accuracies}: not finite, so nothing is kept; give the command again")
        seconds = round(time.monotonic() - started, 1)
        about = {"identity": asdict(identity), "provenance": provenance | {"seconds": seconds}}
        files.write_json(path, content | {"accuracies": with_harmonic_mean(accuracies)} | about)
        if state:
            files.discard(state)
    return read(path)


def set_aside(path: Path) -> None:
    say(f"{path}: damaged; set aside as {path.name}.damaged and made again")
    with suppress(FileNotFoundError):  # another process was quicker
        os.replace(path, path.with_name(f"{path.name}.damaged"))


def read(path: Path) -> Result | None:
    """Return a result file; None if there is none, or its content is damaged or not what its name says.

    Raises UserError for one that can't be read for another reason.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if is_result(content) and path.stem.endswith(digits_of(content["identity"])):
            return Result(path, content)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as e:
        raise UserError(f"{path}: not readable ({reason(e)}); it is needed or in the way: mend or move it") from None
    except (*DAMAGE, AttributeError):
        pass
    return None


def is_result(content: Any) -> bool:
    accuracies = content["accuracies"]
    if not accuracies or not accuracies.keys() <= {*PARTS, "harmonic_mean"}:
        return False
    if not all(type(value) in (int, float) and 0 <= value <= 100 for value in accuracies.values()):
        return False
    return is_identity(content["identity"]) and isinstance(content["provenance"], dict)


def is_identity(value: Any) -> bool:
    """Return whether a value from a file has the form of an identity, which whoever made the file may have chosen."""
    if not isinstance(value, dict) or value.keys() != {one.name for one in fields(Identity)}:
        return False
    texts = [value["weights"], value["precision"], value["prompt"]]
    for name in ("trained_on", "tested_on"):
        images = {} if value[name] is None else value[name]
        texts += images.values()
    settings, meta = value["settings"], value["meta"]
    whole = (settings is None or isinstance(settings, dict)) and (meta is None or is_identity(meta))
    return whole and all(isinstance(text, str) for text in texts)


def say_earlier_version(out: Path) -> None:
    """Name a file below `out` whose name lacks digits, as an earlier version's does; such files stay, unused."""
    for path in sorted([*out.glob("meta/*/prompt.pt"), *out.glob("zeroshot/*/*.json"), *out.glob("finetune/*/*.json")]):
        named = path.parent.name if path.name == "prompt.pt" else path.stem
        if not re.search(f"-[0-9a-f]{{{DIGITS}}}$", named):
            say(f"{path}: not named as this version names files: a copy, or of an earlier version; left as it is and "
                "not used")
            return

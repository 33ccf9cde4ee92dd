"""Where everything goes below --out, and results: a small file for each prompt, dataset and seed, computed once."""
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mp.runtime import files
from mp.runtime.errors import DAMAGE, RunError, UserError, reason
from mp.runtime.progress import say
from mp.settings import PARTS, MetaSettings, with_harmonic_mean
from mp.store.identity import Identity, refuse_earlier, require_same, stored

NAMED = 60  # bytes of the tasks' names in a folder's name, which systems limit


def tasks_folder(out: Path, tasks: Sequence[str]) -> Path:
    """Where meta-prompts of these tasks go, and all that is made from them: tasks/birds+cars-0123abcd, whose digits are
    of all the names; of no tasks, which are Table 1's, `out` itself."""
    if not tasks:
        return out
    names = file_name("+".join(tasks)).encode()[:NAMED].decode(errors="ignore")
    digest = hashlib.sha256(json.dumps(list(tasks)).encode()).hexdigest()[:8]
    return out / "tasks" / f"{names}-{digest}"


def meta_folder(out: Path, settings: MetaSettings, usual: MetaSettings) -> Path:
    """Of one meta-training: coop-seed1, or coop-inner_steps0-seed1 where settings differ from the `usual` ones."""
    usual_values = asdict(usual)
    other = [f"-{k}{v}" for k, v in asdict(settings).items() if v != usual_values[k]]
    return out / "meta" / f"{settings.method}{''.join(other)}-seed{settings.seed}"


def meta_prompt(out: Path, method: str, seed: int) -> Path:
    """The prompt of a meta-training with the usual settings."""
    return out / "meta" / f"{method}-seed{seed}" / "prompt.pt"


def zeroshot_file(out: Path, label: str, dataset: str, seed: int | None = None) -> Path:
    """`label` tells prompts apart: handcrafted, meta-coop, ..."""
    end = "" if seed is None else f"-seed{seed}"
    return out / "zeroshot" / label / f"{file_name(dataset)}{end}.json"


def finetune_file(out: Path, method: str, init: str, classes: str, dataset: str, seed: int) -> Path:
    """`init` tells initial prompts apart: handcrafted, meta, ..."""
    return out / "finetune" / f"{method}-{init}-{classes}" / f"{file_name(dataset)}-seed{seed}.json"


def file_name(dataset: str) -> str:
    return dataset.replace(" ", "")


def cell(path: Path, kind: str, identity: Identity, provenance: dict[str, Any], compute: Callable[[], dict[str, Any]],
         force: bool = False, state: Path | None = None) -> dict[str, Any]:
    """The result in `path`; computed, if it isn't there or `force` is given, by `compute`, whose dict has "accuracies".

    `state`: what an interrupted computation keeps; while it is there, a result beside it is an older one, and it goes
    when the new one is written. A second process that wants the same result waits for the first. A damaged file is set
    aside and computed again. Raises UserError naming what differs if the file was made from something else.
    """
    found = finished(path, force, state)
    if found is None:
        with files.locked(path.with_name(f".{path.stem}.lock")):
            found = finished(path, force, state)
            if found is None:
                if path.exists() and counts(force, state):
                    say(f"{path}: damaged; set aside as {path.stem}.damaged and computed again")
                    os.replace(path, path.with_suffix(".damaged"))
                found = computed(kind, identity, provenance, compute)
                files.write_json(path, found)
                if state:
                    files.discard(state)
    require_same(path, found["identity"], kind, identity)
    return found


def finished(path: Path, force: bool, state: Path | None) -> dict[str, Any] | None:
    """The result in `path`, if there is one that counts."""
    return read(path) if counts(force, state) else None


def counts(force: bool, state: Path | None) -> bool:
    """Whether a result that is there may be used: not with `force`, nor beside a `state`, which is newer."""
    return not force and not (state and state.exists())


def computed(kind: str, identity: Identity, provenance: dict[str, Any],
             compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file of a result holds."""
    started = time.monotonic()
    found = compute()
    seconds = round(time.monotonic() - started, 1)
    if not all(math.isfinite(value) for value in found["accuracies"].values()):
        raise RunError(f"accuracies {found['accuracies']}: not finite, so nothing is kept; give the command again")
    return found | {"accuracies": with_harmonic_mean(found["accuracies"]), "identity": stored(kind, identity),
                    "provenance": provenance | {"seconds": seconds}}


def read(path: Path) -> dict[str, Any] | None:
    """A result file; None if there is none, or it is damaged. Raises UserError for one of another version, or one that
    can't be read."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if is_result(result):
            refuse_earlier(path, result["identity"])
            return result
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as e:
        raise UserError(f"{path}: not readable ({reason(e)}); it is needed or in the way: mend or move it") from None
    except (*DAMAGE, AttributeError):
        pass
    return None


def is_result(result: Any) -> bool:
    accuracies = result["accuracies"]
    if not accuracies or not accuracies.keys() <= {*PARTS, "harmonic_mean"}:
        return False
    if not all(type(value) in (int, float) and 0 <= value <= 100 for value in accuracies.values()):
        return False
    return isinstance(result["identity"], dict) and isinstance(result["provenance"], dict)


def refuse_earlier_version(out: Path) -> None:
    """Raises UserError if a file below `out` has an earlier version's layout: then none is read, nothing is mixed."""
    for path in sorted(out.glob("*/*/*.json")):
        with suppress(*DAMAGE):  # whoever needs it will say so
            if "made_by" in json.loads(path.read_text(encoding="utf-8")):
                refuse_earlier(path, None)

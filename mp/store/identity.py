"""When a file may be used again: only if everything that its content depends on is the same.

| file | used again by | if these are the same | else | if damaged |
|---|---|---|---|---|
| meta/*/prompt.pt, state.pt | meta | all of a meta-prompt's fields below | refused | refused |
| finetune/*.state.pt | finetune | all of a fine-tuned prompt's fields | refused | refused |
| zeroshot/*.json, finetune/*.json | their commands | all of that result's fields | refused | set aside, made anew |
| these results | table --run | the same, but for device and precision | refused | made anew |
| meta/*/prompt.pt | table --run | the same, but for device and precision | refused | refused |
| zeroshot/*.json, finetune/*.json | table | weights, images, paper's settings, the meta-prompt | left out | left out |
| a prompt as an input | any command | its tensors fit; of "meta" weights, settings, tasks | refused | refused |
| features in the cache | all | their fields, torch's and Pillow's versions, times of change | made anew | made anew |
| OpenAI's weights in the cache | all | their SHA-256 | fetched anew | fetched anew |

A result, a state or a usual meta-prompt of another FORMAT is refused; of a prompt FILE the tensors alone count.
--force makes anew what a command writes. Without --run, `table` has
no images and no weights of its own to compare with: it takes what most results have. Never read again: finetune's
*.prompt.pt, unless it is given as an input.

`Identity` holds all of that, and `Session.identity` (mp/commands/session.py) is the one place that gathers it.
DEPENDS_ON says of each kind of file which fields count; they are stored in the file and compared before it is used.
"""
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mp.runtime.errors import UserError, printable

FORMAT = 4  # of all these files; raised by hand when what they hold means something else than before


@dataclass(frozen=True)
class Identity:
    """Everything that the content of a file may depend on; None, or nothing in it, for what plays no part."""
    format: int
    weights: str                  # SHA-256 of CLIP's weights file
    device: str                   # cpu or cuda: they round differently
    precision: str                # of passes with and without gradients, as --precision names it
    settings: dict[str, Any] | None = None    # the method's name among them
    trained_on: dict[str, str] | None = None  # datasets, and the fingerprints of the images drawn from them
    tested_on: dict[str, str] | None = None   # the dataset, and the fingerprint of its test images
    prompt: str | None = None                 # the prompt's words or fingerprint: what is tested, or started from


LEARNING = ("format", "weights", "device", "precision", "settings", "trained_on")
DEPENDS_ON = {
    "meta-prompt": LEARNING,  # and the state that leads to it
    "fine-tuned prompt": (*LEARNING, "prompt"),  # and the state that leads to it
    "fine-tuning result": (*LEARNING, "prompt", "tested_on"),
    "zero-shot result": ("format", "weights", "device", "precision", "prompt", "tested_on"),
    "features": ("format", "weights", "device", "precision", "tested_on"),
}

# A prompt that is an *input*, of zeroshot or finetune, is known by its fingerprint, which counts its method and tensors
# alone: one learnt on a GPU is welcome on a CPU. What else made it is told in its provenance.
#
# What can't matter, or only by rounding, isn't part of an identity: --memory (parts of a batch add up to the same sum,
# and a kept graph is the one that would be computed anew), --workers, the number of processes and threads, --out, the
# GPU's model, and the versions of torch, Pillow and Python.
# Nor is this code: whoever changes a learner or a loop gives --force or another --out; the provenance tells the commit.


def stored(kind: str, identity: Identity) -> dict[str, Any]:
    """What a file of this kind keeps of the identity."""
    everything = asdict(identity)
    return {name: everything[name] for name in DEPENDS_ON[kind]}


def differences(kept: Any, wanted: Any, name: str = "") -> list[str]:
    """What of `wanted` is otherwise in `kept`, entry by entry.

    >>> differences({"settings": {"lr": 1}, "device": "cpu"}, {"settings": {"lr": 2}, "device": "cpu"})
    ['settings.lr 1 (now 2)']
    """
    if isinstance(kept, dict) and isinstance(wanted, dict):
        found = []
        for key in kept | wanted:
            inner = f"{name}.{key}" if name else str(key)
            found += differences(kept.get(key), wanted.get(key), inner)
        return found
    return [] if kept == wanted else [f"{name} {str(kept)[:20]} (now {str(wanted)[:20]})"]


def mismatch(kept: Any, wanted: dict[str, Any]) -> str:
    """What of `wanted` is otherwise in what a file keeps, in words; "" if nothing is. Nothing else counts."""
    if isinstance(kept, dict):
        kept = {name: kept.get(name) for name in wanted}
    different = differences(kept, wanted)
    return printable(f"made otherwise: {', '.join(different[:3])}") if different else ""


def tasks_of(kept: Any) -> dict[str, str]:
    """Which datasets a meta-prompt was trained on, by what its file keeps, and the fingerprints of their images."""
    trained_on = kept.get("trained_on") if isinstance(kept, dict) else None
    return {str(k): str(v) for k, v in trained_on.items()} if isinstance(trained_on, dict) else {}


def require_same(path: Path, kept: Any, kind: str, identity: Identity) -> None:
    """Raises UserError naming what differs between what `path` was made from, as it says, and `identity`."""
    refuse_earlier(path, kept)
    if different := differences(kept, stored(kind, identity)):
        raise UserError(f"{path}: made otherwise: {', '.join(different[:3])}; --force replaces it, another --out keeps "
                        "both")


def refuse_earlier(path: Path, kept: Any) -> None:
    """Raises UserError if what a file says of its identity isn't of this format."""
    if not isinstance(kept, dict) or kept.get("format") != FORMAT:
        raise UserError(f"{path}: from another version of this project; move that folder away, or give another --out")

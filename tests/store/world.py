"""A world of a person's own folders, so small that a command takes a fraction of a second: real files, which tests
edit, take away and mend. Commands are called as run.py calls them, in this process."""
import io
import shlex
from contextlib import redirect_stderr, redirect_stdout
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import run as program
from data.miniature import suite as mini
from data.miniature.styles import render
from mp.learners import METHODS
from tests.walks import outputs
from tests.walks.small import Ended

CLASSES = {  # folder -> what the miniature draws, and four of its classes: two base and two new ones
    "north": ("pets", ["beagle", "poodle", "pug", "samoyed"]), "south": ("flowers", ["daisy", "iris", "rose", "tulip"]),
    "east": ("cars", ["red sedan", "red truck", "red van", "white van"])}
STYLES = {"train": "photo", "test": "negative"}
COUNTS = {"train": 3, "test": 6}
TASKS = "--tasks north south --datasets east"
COOP = f"--method coop {TASKS}"
LEARNT = dict(inner_steps=1, inner_lr=0.01, meta_lr=0.05, batch=2, shots=3, support=1)
TUNED = dict(epochs=2, lr=0.1, batch=3, shots=2)


def draw(folder: Path, kind: str, word: str, style: str, count: int, seed: int) -> None:
    """Draw images of a class into files whose size doesn't depend on what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(render(kind, word, style, count, np.random.default_rng(seed))):
        Image.fromarray(pixels).save(folder / f"{number}.png", compress_level=0)


def write(place: Path) -> Path:
    """Write datasets north, south and east: 3 images a class to train on, 6 to test on."""
    for name, (kind, words) in CLASSES.items():
        for (part, count), (seed, word) in product(COUNTS.items(), enumerate(words)):
            draw(place / name / part / word, kind, word, STYLES[part], count, seed)
    return place


def redraw(place: Path, name: str, part: str) -> None:
    """Let the files of the first class, of the same names and sizes, show the last."""
    kind, words = CLASSES[name]
    sizes = [file.stat().st_size for file in (place / name / part / words[0]).iterdir()]
    draw(place / name / part / words[0], kind, words[-1], STYLES[part], COUNTS[part], 99)
    assert [file.stat().st_size for file in (place / name / part / words[0]).iterdir()] == sizes


def other_weights(place: Path) -> str:
    """Write weights that are different; return the option that gives them."""
    with np.load(mini.WEIGHTS) as content:
        state = {name: content[name] for name in content.files}
    for name in ("text_projection", "visual.proj"):
        noise = np.random.default_rng(0).normal(0, state[name].std(), state[name].shape)
        state[name] = (state[name] + noise).astype(np.float16)
    np.savez(place / "w.npz", **state)
    return "--weights w.npz"


def run(place: Path, command: str, code: int = 0, commit: str = "c0ffee") -> Ended:
    """Return what `run.py COMMAND` prints in this folder, by this version of the code; it must end with the exit code.
    CoOp is the only method of the table."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(mini, "META_EPOCHS", 2)
        patch.setattr("mp.commands.table.SHOWN", ["coop"])
        patch.setattr("mp.learners.promptsrc.TEMPLATES", ["a photo of a {}.", "itap of my {}."])
        for name, row in METHODS.items():
            patch.setitem(METHODS, name, row._replace(finetune=row.finetune | TUNED, meta=row.meta | LEARNT))
        patch.setattr("mp.store.provenance.commit", lambda: commit)
        patch.chdir(place)
        patch.setattr("sys.argv", ["run.py", *shlex.split(command)])
        ended = program.main(shlex.split(command))
    said = Ended(*(stream.buffer.getvalue().decode() for stream in (out, err)))
    assert ended == code and "Traceback" not in said.err, said.err
    return said


def plan(ended: Ended) -> str:
    """Return the line that says, before any work, what there is to do."""
    line, = [line for line in ended.err.splitlines() if line.split(" ")[0] in ("learns", "evaluates", "tunes", "uses")]
    return line


def whole(place: Path, out: str = "runs") -> dict[Path, tuple[int, bytes]]:
    return outputs.everything(place / out)


def numbers(place: Path, out: str = "runs") -> dict[Path, dict[str, float]]:
    """Return the accuracies of every result, by its path below --out."""
    return outputs.numbers(place / out)


def states(place: Path) -> list[Path]:
    """Return the files that interrupted runs left to go on from."""
    return list(place.rglob("*state-*"))

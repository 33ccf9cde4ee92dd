"""What the program makes of bad files: every input × every fault → a one-line message and code 2, or the right result.

Read FILES and CONTENTS as the specification. "=" is the result of an undamaged world, to the last byte of the
prompts; "anew" is that result, too, after the damaged file was set aside; "-" is a table that shows the cell as
missing. Anything else is part of the only line that the program says of itself, after which the file is where it was.
"""
import json
import os
import shutil
import stat

import numpy as np
import pytest
import torch
from PIL import Image

from tests.robustness import faults
from tests.robustness.faults import (AVERAGED, META, PROMPT, RESULT, STATE, TUNE, TUNE_DEEP, TUNED, TUNED_PROMPT,
                                     TUNING_STATE, USUAL_PROMPT, ZEROSHOT, contents, copy, find, limits, prompts, run,
                                     unchanged)

SPLIT, NAMES = "data/dtd/split_zhou_DescribableTextures.json", "data/imagenet/classnames.txt"
VARIANTS, LIST = "data/fgvc_aircraft/variants.txt", "data/fgvc_aircraft/images_variant_train.txt"
OTHER = ZEROSHOT.replace("w.pt", "a.pt --out other")
READ = dict(absent="No such file", folder="can't be read (Is a directory); mend that", loop="Too many levels",
            forbidden="can't be read (Permission denied); mend that")
WEIGHTS = READ | dict(absent="no such weights file", folder="a folder, not a weights file", loop="no such weights file",
                      empty="an empty file")
ZIP = dict(empty="incomplete, or over", cut="incomplete, or over", noise="", huge="incomplete, or over")
PROMPT_FILE = READ | ZIP | dict.fromkeys(("absent", "folder", "loop"), "no such prompt file")
NO_META = "make it with: python run.py meta --method coop --seeds 1"
SAME = dict.fromkeys(faults.FAULTS, "=")
ANEW = dict.fromkeys(("empty", "cut", "noise", "huge"), "anew") | dict(
    absent="=", folder="Is a directory", forbidden="Permission denied", loop="Too many levels")

FILES = {  # input: file, command, and what each fault ends in; where another file has the same reader, some faults
    "weights": ("w.pt", f"{ZEROSHOT} dtd", ZIP | WEIGHTS),
    "archive": ("a.pt", f"{OTHER} dtd", ZIP | dict(empty="an empty file", cut="not a readable weights file")),
    "arrays": ("m.npz", "zeroshot --weights m.npz --datasets pets", dict(
        empty="an empty file", cut="not a zip file", noise="not a readable weights", huge="not a zip file")),
    "split file": (SPLIT, f"{ZEROSHOT} dtd --out other", READ | dict(
        absent="get it from Google Drive id 1u3_QfB46", empty="Expecting value", cut="", noise="utf-8",
        huge="too large for the memory")),
    "class names": (NAMES, f"{ZEROSHOT} imagenet --out other", READ | dict(
        absent="get it from Google Drive id 1-61f", empty="has no name for it", cut="fetch",
        noise="not readable as text", huge="too large for the memory")),
    "variants": (VARIANTS, f"{ZEROSHOT} fgvcaircraft", dict(
        absent="get it from https://www.robots", empty="is not in variants.txt", noise="not readable as text")),
    "image list": (LIST, f"{ZEROSHOT} fgvcaircraft", dict(
        absent="not readable as text (No such file", empty="no image is listed", cut="fetch")),
    "test image": ("data/dtd/images/banded/test0.png", f"{OTHER} dtd", READ | dict(
        absent="no such image", empty="not JPEG, PNG", cut="not a readable image", noise="not JPEG, PNG", huge="=")),
    "training image": ("data/dtd/images/banded/train0.png", f"{TUNE} --seeds 3", dict(
        absent="no such image", cut="not a readable image", forbidden="can't be read (Permission denied); mend that")),
    "checked image": ("data/dtd/images/woven/test1.png", "data --check --data data --weights w.pt --datasets dtd",
                      dict.fromkeys(("absent", "cut", "forbidden"), "not ready: DTD")),
    "prompt": ("p.pt", f"{ZEROSHOT} dtd --method coop --prompt p.pt", PROMPT_FILE),
    "initial prompt": ("p.pt", f"{TUNE} --init p.pt", dict(absent="no such prompt file", cut="incomplete, or over")),
    "meta-prompt": (PROMPT, META.format("coop"), ANEW | dict(loop="=")),
    "meta-prompt that is used": (USUAL_PROMPT, f"{ZEROSHOT} dtd --prompt meta --method coop",
                                 PROMPT_FILE | dict.fromkeys(("absent", "folder", "loop"), NO_META)),
    "meta-prompt that is tuned": (USUAL_PROMPT, f"{TUNE} --init meta", dict(absent=NO_META, noise="")),
    "result": (RESULT, f"{ZEROSHOT} dtd", ANEW),
    "result in the table": (RESULT, "table --data data --datasets dtd --absolute", ANEW | dict.fromkeys(
        ("absent", "empty", "cut", "noise", "huge"), "-")),
    "fine-tuned result": (TUNED, TUNE, dict(cut="anew")),
    "fine-tuned prompt": (TUNED_PROMPT, TUNE, dict(cut="anew", forbidden="Permission denied")),
    "features": ("features", f"{ZEROSHOT} dtd --prompt {{}}", SAME),
    "meta state": (STATE, META.format("cocoop"), ANEW | dict(loop="=")),
    "meta settings": (STATE.replace("state-*.pt", "settings.json"), META.format("cocoop"),
                      dict(noise="=", forbidden="=", folder="Is a directory")),
    "meta log": (STATE.replace("state-*.pt", "log.jsonl"), META.format("cocoop"),
                 dict(noise="=", forbidden="=", folder="Is a directory")),
    "tuning state": (TUNING_STATE, f"{TUNE} --seeds 2", dict(cut="anew", folder="Is a directory")),
    "averaging state": (AVERAGED, TUNE_DEEP, dict(cut="anew")),
}


def tensors(path, change):
    torch.save(change(torch.load(path, weights_only=True)), path)


def text(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def weights(**new):
    return lambda path: tensors(path, lambda state: state | new)


def prompt(**new):
    return lambda path: tensors(path, lambda file: file | {"params": file["params"] | new})


def state(where, value):
    def change(file):
        inner = file
        for key in where[:-1]:
            inner = inner[key]
        inner[where[-1]] = value
        return file
    return lambda path: tensors(path, change)


def split(train):
    return lambda path: text(path, lambda file: file | {"train": train(file["train"])})


def without(name):
    return lambda file: {key: value for key, value in file.items() if key != name}


def earlier(file):
    """Return a file's content in the layout of an earlier version."""
    content = without("identity")(without("provenance")(file))
    return content | {"made_from": file["identity"], "made_by": {"commit": "c"}}


def result(**new):
    return lambda path: text(path, lambda file: file | new)


def rename(entry, **new):
    return [new.get("path", entry[0]), new.get("label", entry[1]), new.get("name", entry[2])]


def lines(*new):
    return lambda path: path.write_text("".join(f"{line}\n" for line in new))


def copied(name, levels=1):
    """Return a change: another file of the world, so many folders up, lies in this one's place."""
    return lambda path: shutil.copy(path.parents[levels - 1] / find(path.parents[levels - 1], name), path)


def saved(value):
    return lambda path: torch.save(value, path)


nan, vast, BIAS = float("nan"), 10**13, "ln_final.bias"
CONTENTS = {  # input: [what is in it, how it got there, what it ends in]
    "weights": [
        ("NaN", weights(**{BIAS: torch.full((64,), nan)}), "ln_final.bias holds NaN"),
        ("infinite in float32", weights(**{BIAS: torch.full((64,), 1e300, dtype=torch.double)}), "holds NaN or inf"),
        ("wrong shape", weights(**{BIAS: torch.zeros(9)}), "ln_final.bias has shape [9], expected [64]"),
        ("a scalar", weights(positional_embedding=torch.zeros(())), "unexpected number of dimensions"),
        ("integers", weights(**{BIAS: torch.zeros(64, dtype=torch.int8)}), "no plain tensor of floating-point"),
        ("sparse", weights(text_projection=torch.zeros(64, 32).to_sparse()), "text_projection is missing"),
        ("another context", weights(positional_embedding=torch.zeros(50, 64)), "49408 tokens and 50 positions"),
        ("no pixels", weights(**{"visual.conv1.weight": torch.zeros(64, 3, 0, 0)}), "_size is 0"),
        ("too narrow", weights(**{"visual.conv1.weight": torch.zeros(32, 3, 16, 16)}), "heads are 64 wide"),
        ("unknown tensor", weights(extra=torch.zeros(1)), "extra not known"),
        ("a list", saved([torch.zeros(3)]), "holds no state dict"),
        ("a prompt", copied("p.pt"), "holds learnt prompts"),
    ],
    "arrays": [
        ("objects", lambda path: np.savez(path, x=np.array([{}], dtype=object)), "not a readable weights file"),
        ("no table", lambda path: np.savez(path, x=np.zeros(3)), "not a readable weights file"),
        ("a vast table", lambda path: np.savez(path, **dict(np.load(path)) | {"vocab_size": np.array(vast)}),
         "too large for the memory"),
    ],
    "split file": [
        ("a list", lambda path: path.write_text("[]"), "no list 'train'"),
        ("deep", lambda path: path.write_text("[" * 100_000), "not readable as JSON"),
        ("no train", split(lambda _: []), "no list 'train', or an empty one"),
        ("a zero byte", split(lambda t: [rename(t[0], path="a\0.png"), *t]), "leaves the image folder"),
        ("label NaN", split(lambda t: [rename(t[0], label=nan), *t]), "not [image path, label, class name]"),
        ("label huge", split(lambda t: [rename(t[0], label=10**30), *t]), "has no training image"),
        ("two names", split(lambda t: [rename(t[0], name="x"), *t]), "class 0 is 'x' and 'banded'"),
        ("no name", split(lambda t: [rename(t[0], name=" \n"), *t]), "not [image path, label, class name]"),
        ("a long name", split(lambda t: [rename(e, name="word " * 90) if e[1] == 3 else e for e in t]), "woven"),
        ("a missing training image", split(lambda t: [rename(t[0], path="no\nsuch.png"), *t]), "="),
        ("duplicate", split(lambda t: [t[0], *t]), "="),
        ("null", split(lambda t: [None, *t]), "train entry 0 is 'None'"),
    ],
    "class names": [
        ("one name twice", lines("n01 tench", "n02 great white shark", "n03 goldfish", "n01 tench"), "="),
        ("two names", lines("n01 tench", "n02 great white shark", "n01 trout"), "line 3: n01 has two names"),
        ("no name", lines("n01", "n02 x"), "line 1: 'n01' isn't an id and a name"),
        ("too long", lines("n01 " + "word " * 90, "n02 x", "n03 y"), "too long for CLIP"),
        ("Windows", lines("\ufeffn01 tench\r", "n02 great white shark\r", "n03 goldfish\r"), "="),
    ],
    "variants": [("duplicate", lines("747-100", "A 320", "A 320"), "class 1 of 3 has no training image"),
                 ("an empty line", lines("747-100", "", "A 320"), "line 2 has no name")],
    "image list": [("outside", lines("../x A 320", "1 747-100"), "leaves the image folder"),
                   ("unknown variant", lines("0 A 321", "1 747-100"), "variant 'A 321' is not in variants.txt")],
    "test image": [
        ("one pixel wide", lambda path: Image.new("RGB", (1, 30_000)).save(path), "(1 by 30000 pixels); crop it"),
        ("a bomb", lambda path: path.write_bytes(b"BM" + bytes(12) + b"\x28\0\0\0" + b"\xff\xff\xff\x0f" * 2
                                                 + b"\1\0\x18\0" + bytes(24)), "not a readable image"),
        ("PostScript", lines("%!PS-Adobe-3.0 EPSF-3.0", "%%BoundingBox: 0 0 9 9", "showpage"), "not JPEG, PNG, WEBP"),
        ("SVG", lines("<svg/>"), "not JPEG, PNG, WEBP"),
        ("a TIFF", lambda path: Image.open(path).save(path, "TIFF"), "="),
    ],
    "prompt": [
        ("NaN", prompt(ctx=torch.full((4, 64), nan)), "ctx holds NaN"),
        ("wrong type", prompt(ctx=torch.zeros(4, 64, dtype=torch.cfloat)), "ctx holds torch.complex64"),
        ("sparse", prompt(ctx=torch.zeros(4, 64).to_sparse()), "not a prompt file"),
        ("no memory behind it", prompt(ctx=torch.zeros(4, 64, device="meta")), "not a prompt file"),
        ("more", prompt(more=torch.zeros(1)), "holds also more"),
        ("another method", state(["method"], "promptsrc"), "made for --method promptsrc"),
        ("weights", copied("w.pt"), "not a prompt file"),
        ("TorchScript", copied("a.pt"), "damaged, or not a file of this project"),
        ("a tensor", saved(torch.zeros(3)), "not a prompt file"),
    ],
    "meta-prompt": [
        ("a list for an identity", state(["identity"], [1]), "anew"),
        ("an earlier layout", lambda path: tensors(path, earlier), "anew"),
        ("a tensor", saved(torch.zeros(3)), "anew"),
        ("NaN", prompt(ctx=torch.full((4, 64), nan)), "anew"),
        ("integers", prompt(ctx=torch.zeros(4, 64, dtype=torch.long)), "anew"),
        ("sparse", prompt(ctx=torch.zeros(4, 64).to_sparse()), "anew"),
        ("no memory behind it", prompt(ctx=torch.zeros(4, 64, device="meta")), "anew"),
        ("no tensors", state(["params"], {}), "anew"),
        ("another method", state(["method"], "promptsrc"), "anew"),
        ("wrong shape", prompt(ctx=torch.zeros(4, 9)), "ctx is [4, 9], this model needs [4, 64]"),
    ],
    "fine-tuned prompt": [
        ("losses of tensors", state(["provenance", "losses"], torch.zeros(3)), "anew"),
        ("no provenance", lambda path: tensors(path, without("provenance")), "anew"),
        ("a meta-prompt", copied("p.pt", 5), "anew"),
    ],
    "result": [
        ("over 100", result(accuracies={"all": 100.5}), "anew"),
        ("huge", result(accuracies={"all": 10**400}), "anew"),
        ("identity a list", result(identity=[]), "anew"),
        ("an earlier layout", lambda path: text(path, earlier), "anew"),
    ],
    "result in the table": [("text for a number", result(accuracies={"all": "25"}), "-"),
                            ("huge", result(accuracies={"all": 10**400}), "-")],
    "features": [
        ("NaN", lambda path: tensors(path, lambda t: t * nan), "="),
        ("wrong shape", lambda path: tensors(path, lambda t: t[1:]), "="),
        ("wrong type", lambda path: tensors(path, lambda t: t.double()), "="),
        ("a dict", saved({}), "="),
        ("no memory behind it", lambda path: tensors(path, lambda t: t.to("meta")), "="),
    ],
    "meta state": [
        ("NaN", state(["state", "params", "ctx"], torch.full((4, 64), nan)), "anew"),
        ("NaN in Adam", state(["state", "adam", "mean", "ctx"], torch.full((4, 64), nan)), "anew"),
        ("wrong shape", state(["state", "adam", "square", "ctx"], torch.zeros(3)), "anew"),
        ("step as text", state(["state", "adam", "step"], "1"), "anew"),
        ("no Adam", state(["state", "adam"], []), "anew"),
        ("a log of text", state(["log"], ["x"]), "anew"),
        ("a dict for a log", state(["log"], {"a": 1}), "anew"),
        ("NaN in the log", state(["log", 0, "query_loss"], nan), "anew"),
        ("an earlier layout", lambda path: tensors(path, earlier), "anew"),
        ("more epochs than lines", state(["state", "epoch"], 2), "anew"),
        ("more epochs than there are", lambda path: tensors(path, lambda file: file | {
            "log": file["log"] * 3, "state": file["state"] | {"epoch": 3}}), "anew"),
        ("no epoch", lambda path: tensors(path, lambda file: file | {
            "log": [], "state": file["state"] | {"epoch": 0}}), "="),
        ("an epoch that is true", state(["state", "epoch"], True), "anew"),
        ("more than a state", state(["hair"], "long"), "anew"),
        ("a fine-tuning state", copied(TUNING_STATE, 5), "anew"),
    ],
    "meta settings": [("a list", lambda path: path.write_text("[]"), "=")],
    "tuning state": [
        ("NaN in the momentum", state(["state", "momentum", "ctx"], torch.full((4, 64), nan)), "anew"),
        ("too many losses", state(["log"], [{"loss": 1.0}] * 9), "anew"),
        ("an average", state(["state", "average"], {"ctx": torch.zeros(4, 64)}), "anew"),
        ("a meta state", copied(STATE, 5), "anew"),
    ],
    "averaging state": [
        ("wrong shape", state(["state", "average", "ctx"], torch.zeros(3)), "anew"),
        ("NaN in the average", state(["state", "average", "text.1"], torch.full((4, 64), nan)), "anew"),
        ("no average", state(["state", "average"], {}), "anew"),
    ],
}


def described(path):
    """Return what is at a path, as far as it can be read."""
    status = os.lstat(path) if os.path.lexists(path) else None
    small = status and stat.S_ISREG(status.st_mode) and status.st_size < 2**20 and os.access(path, os.R_OK)
    return status and (stat.S_IFMT(status.st_mode), status.st_size, path.read_bytes() if small else b"")


def damaged_world(name, world, tmp_path):
    """Return a world of the test's own, in which a kind of file may be damaged, the file's name, and the command."""
    pattern, command, _ = FILES[name]
    file = find(world, pattern)
    place = copy(world, tmp_path / "w", file)
    if name == "fine-tuned prompt":  # which isn't opened beside its result
        (place / find(place, TUNED)).unlink()
    return place, file, command


def held_to(outcome, file, command, place, undamaged):
    """Run the command in a damaged world and hold it to the outcome; nothing else may be lost."""
    before, damaged = contents(place), described(place / file)
    ended = run(command, place, limits)
    unchanged(before, contents(place), file)
    if outcome in ("=", "anew"):
        assert (ended.code, ended.out, prompts(place)) == (0, *undamaged(command)), ended.err
    elif outcome == "-":
        cells = [line.split()[2] for line in ended.out.splitlines() if line.startswith("DTD")]
        assert ended.code == 0 and cells == ["-"]
        assert " of 10 results are missing; table --run computes them\n" in ended.err
    else:
        message, = ended.messages()
        assert ended.code == 2 and outcome in message and ";" in message, ended.err
    aside = [str(path.relative_to(place)) for path in place.rglob("*.damaged")]
    assert aside == ([f"{file}.damaged"] if outcome == "anew" else [])
    if outcome == "anew":
        assert described(place / aside[0]) == damaged and ended.err.count("damaged; set aside as ") == 1
    elif outcome != "=":
        assert described(place / file) == damaged


@pytest.mark.parametrize("name, fault", [(name, fault) for name in FILES for fault in FILES[name][2]])
def test_files(name, fault, world, undamaged, tmp_path):
    place, file, command = damaged_world(name, world, tmp_path)
    faults.damage(fault, place / file, name)
    held_to(FILES[name][2][fault], file, command, place, undamaged)


ROWS = [(name, *row) for name, rows in CONTENTS.items() for row in rows]


@pytest.mark.parametrize("name, change, outcome", [
    pytest.param(name, change, outcome, id=f"{name}: {what}") for name, what, change, outcome in ROWS])
def test_contents(name, change, outcome, world, undamaged, tmp_path):
    place, file, command = damaged_world(name, world, tmp_path)
    change(place / file)
    held_to(outcome, file, command, place, undamaged)

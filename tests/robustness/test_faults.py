"""What the program makes of bad files: every input × every fault → a one-line message and code 2, or the right result.

Read FILES and CONTENTS as the specification. "=" is the result of an undamaged world, to the last byte of the prompts;
"anew" is that result, too, after the damaged file was set aside; "other" is that result, with prompts of other names, as
they were made from another file; "left" is that result, the file as it is; "-" is a table that shows the cell as missing. Anything else is part of the only line
that the program says of itself, after which the file is where it was.
"""
import json
import os
import re
import shutil
import stat

import numpy as np
import pytest
import torch
from PIL import Image

from tests.robustness import faults
from tests.robustness.counts import COUNTS
from tests.robustness.faults import (AVERAGED, META, PROMPT, RESULT, STATE, TUNE, TUNE_DEEP, TUNED, TUNED_PROMPT, TUNING_STATE,
                                     USUAL_PROMPT, ZEROSHOT, contents, copy, find, limits, prompts, run, unchanged)

SPLIT, NAMES = "data/dtd/split_zhou_DescribableTextures.json", "data/imagenet/classnames.txt"
VARIANTS, LIST = "data/fgvc_aircraft/variants.txt", "data/fgvc_aircraft/images_variant_train.txt"
CHECK = "data --check --data data --weights w.pt --datasets data/birds"
OTHER = ZEROSHOT.replace("w.pt", "a.pt --out other")
ARRAYS = "zeroshot --weights m.npz --datasets pets"
TABLE = "table --data data --datasets dtd --absolute"
READ = dict(absent="No such file", folder="can't be read (Is a directory); mend that", loop="Too many levels",
            forbidden="can't be read (Permission denied); mend that")
ZIP = dict(empty="incomplete, or over", cut="incomplete, or over", noise="", huge="incomplete, or over")
JSON = dict(empty="Expecting value", cut="", noise="utf-8", huge="too large for the memory")
TEXT = dict(noise="not readable as text", huge="too large for the memory")
IMAGE = dict(absent="no such image", empty="not JPEG, PNG", cut="not a readable image", noise="not JPEG, PNG", huge="=")
SAME = dict.fromkeys(faults.FAULTS, "=")
ANEW = dict.fromkeys(faults.FAULTS, "anew") | dict(absent="=", folder="Is a directory", forbidden="Permission denied")
ANEW_RESULT, ANEW_TENSORS = ANEW | dict(loop="Too many levels"), ANEW | dict(loop="=")

FILES = {  # input: file, command, and what each fault ends in
    "weights": ("w.pt", f"{ZEROSHOT} dtd", READ | ZIP | dict(folder="a folder, not a weights file", absent="no such weights file", loop="no such weights file", empty="an empty file")),
    "archive": ("a.pt", f"{OTHER} dtd", READ | ZIP | dict(
        folder="a folder, not a weights file", absent="no such weights file", loop="no such weights file", empty="an empty file", cut="not a readable weights file")),
    "arrays": ("m.npz", ARRAYS, READ | dict(folder="a folder, not a weights file", absent="no such weights file", loop="no such weights file", empty="an empty file",
                                            cut="not a zip file", noise="not a readable weights", huge="not a zip file")),
    "split file": (SPLIT, f"{ZEROSHOT} dtd --out other", READ | JSON | dict(absent="get it from Google Drive id 1u3_QfB46")),
    "class names": (NAMES, f"{ZEROSHOT} imagenet --out other", READ | TEXT | dict(
        absent="get it from Google Drive id 1-61f", empty="has no name for it", cut="fetch")),
    "variants": (VARIANTS, f"{ZEROSHOT} fgvcaircraft", READ | TEXT | dict(
        absent="get it from https://www.robots", empty="is not in variants.txt", cut="is not in variants.txt")),
    "image list": (LIST, f"{ZEROSHOT} fgvcaircraft", READ | TEXT | dict(
        absent="not readable as text (No such file", empty="no image is listed", cut="fetch")),
    "test image": ("data/dtd/images/banded/test0.png", f"{OTHER} dtd", READ | IMAGE),
    "training image": ("data/dtd/images/banded/train0.png", f"{TUNE} --seeds 3", READ | IMAGE | dict(huge="other")),
    "checked image": ("data/dtd/images/woven/test1.png", CHECK.replace("data/birds", "dtd"), dict.fromkeys(
        faults.FAULTS, "not ready: DTD")),
    "prompt": ("p.pt", f"{ZEROSHOT} dtd --method coop --prompt p.pt", READ | ZIP | dict.fromkeys(
        ("absent", "folder", "loop"), "no such prompt file")),
    "initial prompt": ("p.pt", f"{TUNE} --init p.pt", READ | ZIP | dict.fromkeys(
        ("absent", "folder", "loop"), "no such prompt file")),
    "meta-prompt": (PROMPT, META.format("coop"), ANEW_TENSORS),
    "meta-prompt that is used": (USUAL_PROMPT, f"{ZEROSHOT} dtd --prompt meta --method coop", READ | ZIP | dict.fromkeys(
        ("absent", "folder", "loop"), "no meta-prompt coop-seed1; make it with: python run.py meta --method coop --seeds 1")),
    "meta-prompt that is tuned": (USUAL_PROMPT, f"{TUNE} --init meta", READ | ZIP | dict.fromkeys(
        ("absent", "folder", "loop"), "no meta-prompt coop-seed1; make it with: python run.py meta --method coop --seeds 1")),
    "result": (RESULT, f"{ZEROSHOT} dtd", ANEW_RESULT),
    "result in the table": (RESULT, TABLE, ANEW_RESULT | dict.fromkeys(("absent", "empty", "cut", "noise", "huge"), "-")),
    "fine-tuned result": (TUNED, TUNE, ANEW_RESULT),
    "fine-tuned prompt": (TUNED_PROMPT, TUNE, ANEW_TENSORS),
    "fine-tuned prompt beside its result": (TUNED_PROMPT, TUNE, dict.fromkeys(faults.FAULTS, "left")),
    "features": ("features", f"{ZEROSHOT} dtd --prompt {{}}", SAME),
    "meta state": (STATE, META.format("cocoop"), ANEW_TENSORS),
    "meta settings": (STATE.replace("state-*.pt", "settings.json"), META.format("cocoop"), SAME | dict(folder="Is a directory")),
    "meta log": (STATE.replace("state-*.pt", "log.jsonl"), META.format("cocoop"), SAME | dict(folder="Is a directory")),
    "tuning state": (TUNING_STATE, f"{TUNE} --seeds 2", ANEW_TENSORS),
    "averaging state": (AVERAGED, TUNE_DEEP, ANEW_TENSORS),
}
WITHOUT = {"fine-tuned prompt": TUNED}  # what else isn't there: beside its result a fine-tuned prompt isn't opened


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
    """In the layout of an earlier version."""
    return without("identity")(without("provenance")(file)) | {"made_from": file["identity"], "made_by": {"commit": "c"}}


def result(**new):
    return lambda path: text(path, lambda file: file | new)


def rename(entry, **new):
    return [new.get("path", entry[0]), new.get("label", entry[1]), new.get("name", entry[2])]


def lines(*new):
    return lambda path: path.write_text("".join(f"{line}\n" for line in new))


def picture(*size, form="PNG"):
    return lambda path: Image.new("RGB", size).save(path, form)


nan, big = float("nan"), float("inf")
CONTENTS = {  # input: [what is in it, how it got there, what it ends in]
    "weights": [
        ("NaN", weights(**{"ln_final.bias": torch.full((64,), nan)}), "ln_final.bias holds NaN"),
        ("infinite in float32", weights(**{"ln_final.bias": torch.full((64,), 1e300, dtype=torch.double)}), "holds NaN or inf"),
        ("wrong shape", weights(**{"ln_final.bias": torch.zeros(9)}), "ln_final.bias has shape [9], expected [64]"),
        ("a scalar", weights(positional_embedding=torch.zeros(())), "unexpected number of dimensions"),
        ("integers", weights(**{"ln_final.bias": torch.zeros(64, dtype=torch.int8)}), "no plain tensor of floating-point"),
        ("sparse", weights(text_projection=torch.zeros(64, 32).to_sparse()), "text_projection is missing"),
        ("another context", weights(positional_embedding=torch.zeros(50, 64)), "49408 tokens and 50 positions"),
        ("another vocabulary", weights(**{"token_embedding.weight": torch.zeros(9, 64)}), "9 tokens and 77 positions"),
        ("no pixels", weights(**{"visual.conv1.weight": torch.zeros(64, 3, 0, 0)}), "_size is 0"),
        ("too narrow", weights(**{"visual.conv1.weight": torch.zeros(32, 3, 16, 16)}), "heads are 64 wide"),
        ("a number", weights(text_projection=3), "text_projection is missing"),
        ("unknown tensor", weights(extra=torch.zeros(1)), "extra not known"),
        ("a list", lambda path: torch.save([torch.zeros(3)], path), "holds no state dict"),
        ("nothing", lambda path: torch.save({}, path), "holds no state dict"),
        ("a prompt", lambda path: shutil.copy(path.with_name("p.pt"), path), "holds learnt prompts"),
        ("a picture", picture(9, 9), "not a readable weights file"),
    ],
    "arrays": [
        ("objects", lambda path: np.savez(path, x=np.array([{}], dtype=object)), "not a readable weights file"),
        ("no table", lambda path: np.savez(path, x=np.zeros(3)), "not a readable weights file"),
        ("a vast table", lambda path: np.savez(path, **dict(np.load(path)) | {"vocab_size": np.array(10**13)}), "too large for the memory"),
    ],
    "split file": [
        ("a list", lambda path: path.write_text("[]"), "no list 'train'"),
        ("deep", lambda path: path.write_text("[" * 100_000), "not readable as JSON"),
        ("no train", split(lambda _: []), "no list 'train', or an empty one"),
        ("outside", split(lambda t: [rename(t[0], path="../../w.pt"), *t]), "leaves the image folder: '../../w.pt'"),
        ("absolute", split(lambda t: [rename(t[0], path="/etc/passwd"), *t]), "leaves the image folder: '/etc/passwd'"),
        ("back through a folder", split(lambda t: [rename(t[0], path="banded/../../x.png"), *t]), "leaves the image folder"),
        ("a zero byte", split(lambda t: [rename(t[0], path="a\0.png"), *t]), "leaves the image folder"),
        ("label as text", split(lambda t: [rename(t[0], label="0"), *t]), "not [image path, label, class name]"),
        ("label NaN", split(lambda t: [rename(t[0], label=nan), *t]), "not [image path, label, class name]"),
        ("label true", split(lambda t: [rename(t[0], label=True), *t]), "not [image path, label, class name]"),
        ("label below zero", split(lambda t: [rename(t[0], label=-1), *t]), "has no training image"),
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
        ("Windows", lambda path: path.write_bytes("\ufeffn01 tench\r\nn02 great white shark\r\nn03 goldfish\r\n".encode()), "="),
    ],
    "variants": [("duplicate", lines("747-100", "A 320", "A 320"), "class 1 of 3 has no training image"),
                 ("an empty line", lines("747-100", "", "A 320"), "line 2 has no name")],
    "image list": [("outside", lines("../x A 320", "1 747-100"), "leaves the image folder"),
                   ("a zero byte", lines("\0 A 320", "1 747-100"), "leaves the image folder"),
                   ("unknown variant", lines("0 A 321", "1 747-100"), "variant 'A 321' is not in variants.txt")],
    "test image": [
        ("one pixel wide", picture(1, 30_000), "(1 by 30000 pixels); crop it"),
        ("a bomb", lambda path: path.write_bytes(b"BM" + bytes(12) + b"\x28\0\0\0" + b"\xff\xff\xff\x0f" * 2 + b"\1\0\x18\0" + bytes(24)),
         "not a readable image"),
        ("PostScript", lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"), "not JPEG, PNG, WEBP"),
        ("SVG", lambda path: path.write_text("<svg/>"), "not JPEG, PNG, WEBP"),
        ("a TIFF", lambda path: Image.open(path).save(path, "TIFF"), "="),
    ],
    "prompt": [
        ("NaN", prompt(ctx=torch.full((4, 64), nan)), "ctx holds NaN"),
        ("infinite", prompt(ctx=torch.full((4, 64), big)), "ctx holds NaN or infinite"),
        ("wrong shape", prompt(ctx=torch.zeros(4, 9)), "ctx is [4, 9], this model needs [4, 64]"),
        ("wrong type", prompt(ctx=torch.zeros(4, 64, dtype=torch.long)), "ctx holds torch.int64"),
        ("complex", prompt(ctx=torch.zeros(4, 64, dtype=torch.cfloat)), "ctx holds torch.complex64"),
        ("sparse", prompt(ctx=torch.zeros(4, 64).to_sparse()), "not a prompt file"),
        ("no memory behind it", prompt(ctx=torch.zeros(4, 64, device="meta")), "not a prompt file"),
        ("a list", prompt(ctx=[0.0]), "not a prompt file"),
        ("more", prompt(more=torch.zeros(1)), "holds also more"),
        ("another method", lambda path: tensors(path, lambda f: f | {"method": "promptsrc"}), "made for --method promptsrc"),
        ("no method", lambda path: tensors(path, lambda f: {"params": {}}), "not a prompt file"),
        ("weights", lambda path: shutil.copy(path.with_name("w.pt"), path), "not a prompt file"),
        ("TorchScript", lambda path: shutil.copy(path.with_name("a.pt"), path), "damaged, or not a file of this project"),
        ("a tensor", lambda path: torch.save(torch.zeros(3), path), "not a prompt file"),
    ],
    "meta-prompt": [
        ("a list for an identity", state(["identity"], [1]), "anew"), ("an identity of text", state(["identity"], "x"), "anew"),
        ("an earlier layout", lambda path: tensors(path, earlier), "anew"), ("a tensor", lambda path: torch.save(torch.zeros(3), path), "anew"),
        ("NaN", prompt(ctx=torch.full((4, 64), nan)), "anew"), ("infinite", prompt(ctx=torch.full((4, 64), big)), "anew"),
        ("integers", prompt(ctx=torch.zeros(4, 64, dtype=torch.long)), "anew"), ("sparse", prompt(ctx=torch.zeros(4, 64).to_sparse()), "anew"),
        ("no memory behind it", prompt(ctx=torch.zeros(4, 64, device="meta")), "anew"), ("no tensors", state(["params"], {}), "anew"),
        ("no method", lambda path: tensors(path, without("method")), "anew"), ("a list", lambda path: torch.save([], path), "anew"),
        ("another method", state(["method"], "promptsrc"), "anew"), ("weights", lambda path: shutil.copy(path.parents[4] / "w.pt", path), "anew"),
        ("TorchScript", lambda path: shutil.copy(path.parents[4] / "a.pt", path), "anew"),
        ("wrong shape", prompt(ctx=torch.zeros(4, 9)), "ctx is [4, 9], this model needs [4, 64]"),
        ("more", prompt(more=torch.zeros(1)), "holds also more"),
    ],
    "fine-tuned prompt": [
        ("NaN", prompt(ctx=torch.full((4, 64), nan)), "anew"), ("no images", state(["provenance"], {"commit": "c"}), "left"),
        ("losses of text", state(["provenance", "losses"], "x"), "left"),
        ("losses of tensors", state(["provenance", "losses"], torch.zeros(3)), "anew"), ("no provenance", lambda path: tensors(path, without("provenance")), "anew"),
        ("the meta-prompt", lambda path: shutil.copy(path.parents[4] / "p.pt", path), "anew"),
    ],
    "result": [
        ("text for a number", result(accuracies={"all": "25"}), "anew"), ("NaN", result(accuracies={"all": nan}), "anew"),
        ("true", result(accuracies={"all": True}), "anew"), ("over 100", result(accuracies={"all": 100.5}), "anew"),
        ("huge", result(accuracies={"all": 10**400}), "anew"), ("none", result(accuracies={}), "anew"),
        ("a list", result(accuracies=[1]), "anew"), ("identity a list", result(identity=[]), "anew"),
        ("provenance a list", result(provenance=[]), "anew"), ("no identity", lambda path: text(path, without("identity")), "anew"),
        ("no provenance", lambda path: text(path, without("provenance")), "anew"),
        ("an empty identity", result(identity={}), "anew"), ("an earlier layout", lambda path: text(path, earlier), "anew"),
        ("deep", lambda path: path.write_text("[" * 100_000), "anew"), ("null", lambda path: path.write_text("null"), "anew"),
        ("a part more", result(accuracies={"all": 1.0, "old": 1.0}), "anew"),
    ],
    "result in the table": [
        ("text for a number", result(accuracies={"all": "25"}), "-"), ("huge", result(accuracies={"all": 10**400}), "-"),
        ("NaN", result(accuracies={"all": nan, "base": 1.0}), "-"), ("null", lambda path: path.write_text("null"), "-"),
    ],
    "features": [
        ("NaN", lambda path: tensors(path, lambda t: t * nan), "="), ("wrong shape", lambda path: tensors(path, lambda t: t[1:]), "="),
        ("wrong type", lambda path: tensors(path, lambda t: t.double()), "="), ("a dict", lambda path: torch.save({}, path), "="),
        ("no memory behind it", lambda path: tensors(path, lambda t: t.to("meta")), "="),
    ],
    "meta state": [
        ("NaN", state(["state", "params", "ctx"], torch.full((4, 64), nan)), "anew"),
        ("NaN in Adam", state(["state", "adam", "mean", "ctx"], torch.full((4, 64), nan)), "anew"),
        ("wrong shape", state(["state", "adam", "square", "ctx"], torch.zeros(3)), "anew"),
        ("step as text", state(["state", "adam", "step"], "1"), "anew"),
        ("no Adam", state(["state", "adam"], []), "anew"),
        ("a longer log", lambda path: tensors(path, lambda f: f | {"log": f["log"] * 9}), "anew"),
        ("a log of text", state(["log"], ["x"]), "anew"),
        ("NaN in the log", state(["log", 0, "query_loss"], nan), "anew"),
        ("an earlier layout", lambda path: tensors(path, earlier), "anew"),
        ("more epochs than lines", state(["state", "epoch"], 2), "anew"),
        ("more epochs than there are", lambda path: tensors(path, lambda f: f | {
            "log": f["log"] * 3, "state": f["state"] | {"epoch": 3}}), "anew"),
        ("no epoch", lambda path: tensors(path, lambda f: f | {"log": [], "state": f["state"] | {"epoch": 0}}),
         "="),
        ("an epoch that is true", state(["state", "epoch"], True), "anew"),
        ("more than a state", state(["hair"], "long"), "anew"),
        ("a list for a log", state(["log"], {"a": 1}), "anew"),
        ("a fine-tuning state", lambda path: shutil.copy(path.parents[4] / find(path.parents[4], TUNING_STATE), path), "anew"),
        ("a prompt", lambda path: shutil.copy(path.parents[4] / "p.pt", path), "anew"),
    ],
    "meta settings": [("a list", lambda path: path.write_text("[]"), "="), ("other weights", result(identity={"weights": "0"}), "="),
                      ("an earlier layout", lambda path: text(path, earlier), "=")],
    "tuning state": [
        ("NaN", state(["state", "params", "ctx"], torch.full((4, 64), nan)), "anew"),
        ("NaN in the momentum", state(["state", "momentum", "ctx"], torch.full((4, 64), nan)), "anew"),
        ("wrong shape", state(["state", "momentum", "ctx"], torch.zeros(3)), "anew"),
        ("NaN in the losses", state(["log", 0, "loss"], nan), "anew"),
        ("too many losses", state(["log"], [{"loss": 1.0}] * 9), "anew"),
        ("no momentum", lambda path: tensors(path, lambda f: f | {"state": without("momentum")(f["state"])}),
         "anew"),
        ("an average", state(["state", "average"], {"ctx": torch.zeros(4, 64)}), "anew"),
        ("an earlier layout", lambda path: tensors(path, earlier), "anew"),
        ("a meta state", lambda path: shutil.copy(path.parents[4] / find(path.parents[4], STATE), path), "anew"),
    ],
    "averaging state": [
        ("wrong shape", state(["state", "average", "ctx"], torch.zeros(3)), "anew"),
        ("NaN in the average", state(["state", "average", "text.1"], torch.full((4, 64), nan)), "anew"),
        ("no average", state(["state", "average"], {}), "anew"),
    ],
}


def held_to(outcome, file, command, place, undamaged):
    """Run the command in a damaged world and hold it to the outcome; nothing else may be lost."""
    before, damaged = contents(place), described(place / file)
    ended = run(command, place, limits)
    COUNTS["fault cases"] += 1
    unchanged(before, contents(place), file)
    aside = [str(path.relative_to(place)) for path in place.rglob("*.damaged")]
    if outcome in ("=", "anew", "other", "left"):
        whole, made = undamaged(command)
        ours = prompts(place)
        if outcome == "other":
            ours, made = map(without_digits, (ours, made))
        elif outcome == "left":
            ours, made = ({name: digest for name, digest in some.items() if name != file} for some in (ours, made))
        COUNTS["wrong numbers"] += ended.out != whole.out or ours != made
        assert (ended.code, ended.out) == (0, whole.out) and ours == made, ended.err
    elif outcome == "-":
        cells = [line.split()[2] for line in ended.out.splitlines() if line.startswith("DTD")]
        assert ended.code == 0 and " of 10 results are missing; table --run computes them\n" in ended.err and cells == ["-"]
    else:
        assert ended.code == 2, ended.err
        message, = ended.messages()
        assert outcome in message and ";" in message, message
    if outcome == "anew":
        assert aside == [f"{file}.damaged"] and described(place / aside[0]) == damaged
        assert ended.err.count("damaged; set aside as ") == 1
    else:
        assert not aside
    if outcome not in ("=", "anew"):
        assert described(place / file) == damaged


def described(path):
    """What is at a path, as far as it can be read."""
    status = os.lstat(path) if os.path.lexists(path) else None
    small = status and stat.S_ISREG(status.st_mode) and status.st_size < 2**20 and os.access(path, os.R_OK)
    return status and (stat.S_IFMT(status.st_mode), status.st_size, path.read_bytes() if small else b"")


def without_digits(found):
    return sorted(re.sub("-[0-9a-f]{12}", "", name) for name in found)


def damaged_world(name, world, tmp_path):
    """Return a world of the test's own, in which a kind of file may be damaged, the file's name, and the command."""
    pattern, command, _ = FILES[name]
    file = find(world, pattern)
    place = copy(world, tmp_path / "w", file)
    if name in WITHOUT:
        (place / find(place, WITHOUT[name])).unlink()
    return place, file, command


@pytest.mark.parametrize("fault, seed", [(f, s) for f in faults.FAULTS for s in range(2 if f == "cut" else 1)])
@pytest.mark.parametrize("name", FILES)
def test_files(name, fault, seed, world, undamaged, tmp_path):
    place, file, command = damaged_world(name, world, tmp_path)
    faults.damage(fault, place / file, f"{name} {seed}")
    held_to(FILES[name][2][fault], file, command, place, undamaged)


@pytest.mark.parametrize("name, change, outcome", [pytest.param(name, change, outcome, id=f"{name}: {what}")
                                                   for name, rows in CONTENTS.items() for what, change, outcome in rows])
def test_contents(name, change, outcome, world, undamaged, tmp_path):
    place, file, command = damaged_world(name, world, tmp_path)
    change(place / file)
    held_to(outcome, file, command, place, undamaged)

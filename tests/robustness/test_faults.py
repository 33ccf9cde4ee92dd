"""What the program makes of bad files: every input × every fault → a one-line message and code 2, or the right result.

Read FILES and CONTENTS as the specification. "=" is the result of an undamaged world, to the last byte of the prompts;
"≈" is that result, with prompts that know of the other file; "-" is a table that shows the cell as missing. Anything else
is part of the only line that the program says of itself.
"""
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.robustness import faults
from tests.robustness.counts import COUNTS
from tests.robustness.faults import (AVERAGED, META, RESULT, STATE, TUNE, TUNE_DEEP, TUNED, ZEROSHOT, contents, copy, limits, prompts, run,
                                     unchanged)

SPLIT, NAMES = "data/dtd/split_zhou_DescribableTextures.json", "data/imagenet/classnames.txt"
VARIANTS, LIST = "data/fgvc_aircraft/variants.txt", "data/fgvc_aircraft/images_variant_train.txt"
PROMPT = "runs/paper/meta/coop-shots3-support2-seed1/prompt.pt"
CHECK = "data --check --data data --weights w.pt --datasets data/birds"
OTHER = ZEROSHOT.replace("w.pt", "a.pt --out other")
ARRAYS = "zeroshot --weights m.npz --datasets pets"
TABLE = "table --data data --datasets dtd"
READ = dict(absent="No such file", folder="can't be read (Is a directory); mend that", loop="Too many levels",
            forbidden="can't be read (Permission denied); mend that")
ZIP = dict(empty="incomplete, or over", cut="incomplete, or over", noise="", huge="incomplete, or over")
JSON = dict(empty="Expecting value", cut="", noise="utf-8", huge="too large for the memory")
TEXT = dict(noise="not text in UTF-8", huge="too large for the memory")
IMAGE = dict(absent="no such image", empty="not JPEG, PNG", cut="not a readable image", noise="not JPEG, PNG", huge="=")
SAME = dict.fromkeys(faults.FAULTS, "=")
IN_THE_WAY = dict(folder="Is a directory", loop="Too many levels", forbidden="Permission denied")

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
        absent="no such file", empty="no image is listed", cut="fetch")),
    "test image": ("data/dtd/images/banded/test0.png", f"{OTHER} dtd", READ | IMAGE),
    "training image": ("data/dtd/images/banded/train0.png", f"{TUNE} --seeds 3", READ | IMAGE | dict(huge="≈")),
    "checked image": ("data/dtd/images/woven/test1.png", CHECK.replace("data/birds", "dtd"), dict.fromkeys(
        faults.FAULTS, "not ready: DTD")),
    "prompt": ("p.pt", f"{ZEROSHOT} dtd --method coop --prompt p.pt", READ | ZIP | dict.fromkeys(
        ("absent", "folder", "loop"), "no such prompt file")),
    "initial prompt": ("p.pt", f"{TUNE} --init p.pt", READ | ZIP | dict.fromkeys(
        ("absent", "folder", "loop"), "no such prompt file")),
    "meta-prompt": (PROMPT, META.format("coop"), READ | ZIP | dict(absent="=", loop="=")),
    "result": (RESULT, f"{ZEROSHOT} dtd", SAME | IN_THE_WAY),
    "result in the table": (RESULT, TABLE, dict.fromkeys(faults.FAULTS, "-") | IN_THE_WAY),
    "fine-tuned result": (f"{TUNED}1.json", TUNE, SAME | IN_THE_WAY),
    "features": ("features", f"{ZEROSHOT} dtd --prompt {{}}", SAME),
    "meta state": (STATE, META.format("cocoop"), READ | ZIP | dict(absent="=", loop="=", cut="damaged")),
    "meta settings": (STATE.replace("state.pt", "settings.json"), META.format("cocoop"), SAME | dict(folder="Is a directory")),
    "meta log": (STATE.replace("state.pt", "log.jsonl"), META.format("cocoop"), SAME | dict(folder="Is a directory")),
    "tuning state": (f"{TUNED}2.state.pt", f"{TUNE} --seeds 2", READ | ZIP | dict(absent="=", loop="=", cut="damaged")),
    "averaging state": (AVERAGED, TUNE_DEEP, READ | ZIP | dict(absent="=", loop="=", cut="damaged")),
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
        ("sparse", weights(text_projection=torch.zeros(64, 32).to_sparse()), "no plain tensor of floating-point"),
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
        ("no name", split(lambda t: [rename(t[0], name=" \n"), *t]), "class 0 has no name"),
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
        ("sparse", prompt(ctx=torch.zeros(4, 64).to_sparse()), "not a plain tensor"),
        ("no memory behind it", prompt(ctx=torch.zeros(4, 64, device="meta")), "not a plain tensor"),
        ("a list", prompt(ctx=[0.0]), "not a prompt file"),
        ("more", prompt(more=torch.zeros(1)), "holds the tensors ctx, more"),
        ("another method", lambda path: tensors(path, lambda f: f | {"method": "promptsrc"}), "made for --method promptsrc"),
        ("no method", lambda path: tensors(path, lambda f: {"params": {}}), "not a prompt file"),
        ("weights", lambda path: shutil.copy(path.with_name("w.pt"), path), "not a prompt file"),
        ("TorchScript", lambda path: shutil.copy(path.with_name("a.pt"), path), "damaged, or not a file of this project"),
        ("a tensor", lambda path: torch.save(torch.zeros(3), path), "a Tensor"),
    ],
    "meta-prompt": [("a list for an identity", state(["identity"], [1]), "from another version of this project"),
                    ("an identity of text", state(["identity"], "x"), "from another version of this project"),
                    ("an earlier layout", lambda path: tensors(path, earlier), "from another version of this project")],
    "result": [
        ("text for a number", result(accuracies={"all": "25"}), "="), ("NaN", result(accuracies={"all": nan}), "="),
        ("true", result(accuracies={"all": True}), "="), ("over 100", result(accuracies={"all": 100.5}), "="),
        ("huge", result(accuracies={"all": 10**400}), "="), ("none", result(accuracies={}), "="),
        ("a list", result(accuracies=[1]), "="), ("identity a list", result(identity=[]), "="),
        ("provenance a list", result(provenance=[]), "="), ("no identity", lambda path: text(path, without("identity")), "="),
        ("no provenance", lambda path: text(path, without("provenance")), "="),
        ("an empty identity", result(identity={}), "from another version of this project"),
        ("an earlier layout", lambda path: text(path, earlier), "from another version of this project"),
        ("deep", lambda path: path.write_text("[" * 100_000), "="), ("null", lambda path: path.write_text("null"), "="),
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
        ("NaN", state(["state", "params", "ctx"], torch.full((4, 64), nan)), "damaged (ctx holds NaN"),
        ("NaN in Adam", state(["state", "adam", "mean", "ctx"], torch.full((4, 64), nan)), "damaged (ctx holds NaN"),
        ("wrong shape", state(["state", "adam", "square", "ctx"], torch.zeros(3)), "damaged (ctx is [3], this model needs [4, 64])"),
        ("step as text", state(["state", "adam", "step"], "1"), "damaged (step is 1)"),
        ("no Adam", state(["state", "adam"], []), "damaged (adam holds list, not step, mean, square)"),
        ("a longer log", lambda path: tensors(path, lambda f: f | {"log": f["log"] * 9}), "damaged (its number of epochs)"),
        ("a log of text", state(["log"], ["x"]), "damaged (log holds str"),
        ("NaN in the log", state(["log", 0, "query_loss"], nan), "damaged (query_loss is nan)"),
        ("an earlier layout", lambda path: tensors(path, earlier), "from another version of this project"),
        ("more epochs than lines", state(["state", "epoch"], 2), "damaged (its number of epochs)"),
        ("more epochs than there are", lambda path: tensors(path, lambda f: f | {
            "log": f["log"] * 3, "state": f["state"] | {"epoch": 3}}), "damaged (its number of epochs)"),
        ("no epoch", lambda path: tensors(path, lambda f: f | {"log": [], "state": f["state"] | {"epoch": 0}}),
         "damaged (its number of epochs)"),
        ("an epoch that is true", state(["state", "epoch"], True), "damaged (epoch is True)"),
        ("more than a state", state(["hair"], "long"), "damaged (the state holds identity, state, log, hair, not identity"),
        ("a list for a log", state(["log"], {"a": 1}), "damaged (log isn't a list of 0)"),
        ("a fine-tuning state", lambda path: shutil.copy(path.parents[4] / f"{TUNED}2.state.pt", path), "settings.method coop (now cocoop)"),
        ("a prompt", lambda path: shutil.copy(path.parents[4] / "p.pt", path), "settings.method coop (now cocoop)"),
    ],
    "meta settings": [("a list", lambda path: path.write_text("[]"), "="), ("other weights", result(identity={"weights": "0"}), "="),
                      ("an earlier layout", lambda path: text(path, earlier), "from another version of this project")],
    "tuning state": [
        ("NaN", state(["state", "params", "ctx"], torch.full((4, 64), nan)), "damaged (ctx holds NaN"),
        ("NaN in the momentum", state(["state", "momentum", "ctx"], torch.full((4, 64), nan)), "damaged (ctx holds NaN"),
        ("wrong shape", state(["state", "momentum", "ctx"], torch.zeros(3)), "damaged (ctx is [3], this model needs [4, 64])"),
        ("NaN in the losses", state(["log", 0, "loss"], nan), "damaged (loss is nan)"),
        ("too many losses", state(["log"], [{"loss": 1.0}] * 9), "damaged (its number of epochs)"),
        ("no momentum", lambda path: tensors(path, lambda f: f | {"state": without("momentum")(f["state"])}),
         "damaged (state holds epoch, params, average, numbers, not epoch, params, momentum"),
        ("an average", state(["state", "average"], {"ctx": torch.zeros(4, 64)}), "damaged (average holds ctx, not nothing)"),
        ("an earlier layout", lambda path: tensors(path, earlier), "from another version of this project"),
        ("a meta state", lambda path: shutil.copy(path.parents[4] / STATE, path), "settings.method cocoop (now coop)"),
    ],
    "averaging state": [
        ("wrong shape", state(["state", "average", "ctx"], torch.zeros(3)), "damaged (ctx is [3], this model needs [4, 64])"),
        ("NaN in the average", state(["state", "average", "text.1"], torch.full((4, 64), nan)), "damaged (text.1 holds NaN"),
        ("no average", state(["state", "average"], {}), "damaged (average holds nothing, not ctx"),
    ],
}


def held_to(outcome, name, command, place, undamaged):
    """Run the command in a damaged world and hold it to the outcome; nothing else may be lost."""
    file, before = FILES[name][0], contents(place)
    ended = run(command, place, limits)
    COUNTS["fault cases"] += 1
    unchanged(before, contents(place), file)
    if outcome == "=":
        whole, made = undamaged(command)
        assert ended.code == 0, ended.err
        COUNTS["wrong numbers"] += ended.out != whole.out or prompts(place) != made
        assert ended.out == whole.out and prompts(place) == made
    elif outcome == "≈":
        whole, made = undamaged(command)
        COUNTS["wrong numbers"] += ended.out != whole.out
        assert (ended.code, ended.out) == (0, whole.out) and prompts(place).keys() == made.keys()
    elif outcome == "-":
        cells = [line.split()[2] for line in ended.out.splitlines() if line.startswith("DTD")]
        assert ended.code == 0 and "run.py zeroshot --data data --datasets dtd\n" in ended.err and cells == ["-"]
    else:
        assert ended.code == 2, ended.err
        message, = ended.messages()
        assert outcome in message and ";" in message, message


@pytest.mark.parametrize("fault, seed", [(f, s) for f in faults.FAULTS for s in range(2 if f == "cut" else 1)])
@pytest.mark.parametrize("name", FILES)
def test_files(name, fault, seed, world, undamaged, tmp_path):
    file, command, outcomes = FILES[name]
    place = copy(world, tmp_path / "w", file)
    faults.damage(fault, place / file, seed)
    held_to(outcomes[fault], name, command, place, undamaged)


@pytest.mark.parametrize("name, change, outcome", [pytest.param(name, change, outcome, id=f"{name}: {what}")
                                                   for name, rows in CONTENTS.items() for what, change, outcome in rows])
def test_contents(name, change, outcome, world, undamaged, tmp_path):
    file, command, _ = FILES[name]
    place = copy(world, tmp_path / "w", file)
    change(place / file)
    held_to(outcome, name, command, place, undamaged)

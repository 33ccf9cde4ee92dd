"""Files made to do harm: no code of theirs runs, nothing outside our folders is opened, pages show them as text."""
import ast
import json
import os
import pickle
import shlex
import shutil
import struct
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from mp.clip import checkpoint, weights
from mp.runtime import torchfile
from mp.runtime.errors import UserError
from mp.store import cells
from tests.conftest import ROOT
from tests.rehearsal import openai_archive
from tests.report.test_page import Checker
from tests.robustness import tiny
from tests.robustness.faults import (META, PROMPT, RESULT, STATE, TUNE, TUNED, TUNED_PROMPT, TUNING_STATE, USUAL_PROMPT,
                                     ZEROSHOT, copy, find, limits, run)

REFUSED = {  # where a file with code is put, and the command that reads it
    "weights": ("w.pt", f"{ZEROSHOT} dtd"),
    "archive": ("a.pt", f"{ZEROSHOT.replace('w.pt', 'a.pt')} dtd"),
    "arrays": ("m.npz", "zeroshot --weights m.npz --datasets pets"),
    "prompt": ("p.pt", f"{ZEROSHOT} dtd --method coop --prompt p.pt"),
    "initial prompt": ("p.pt", f"{TUNE} --init p.pt"),
    "used meta-prompt": (USUAL_PROMPT, f"{ZEROSHOT} dtd --method coop --prompt meta"),
}
MADE_ANEW = {
    "meta-prompt": (PROMPT, META.format("coop")),
    "meta state": (STATE, META.format("cocoop")),
    "tuned prompt": (TUNED_PROMPT, TUNE),
    "tuning state": (TUNING_STATE, f"{TUNE} --seeds 2"),
    "features": ("features", f"{ZEROSHOT} dtd --prompt {{}}"),
    "result": (RESULT, f"{ZEROSHOT} dtd"),
}


class Trap:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def plain(path, trap):
    path.write_bytes(pickle.dumps({"method": "coop", "params": {"ctx": trap}}))


def in_torchs_archive(path, trap):
    torch.save({"method": "coop", "params": {"ctx": trap}, "x": torch.zeros(3)}, path)


def in_torchs_old_form(path, trap):
    torch.save({"x": trap}, path, _use_new_zipfile_serialization=False)


def in_torchscript(path, trap):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"x": trap}))
        archive.writestr("m/constants.pkl", pickle.dumps(trap))


def in_arrays(path, trap):
    with open(path, "wb") as f:
        np.savez(f, x=np.array([trap], dtype=object))


@pytest.mark.parametrize("form", [plain, in_torchs_archive, in_torchs_old_form, in_torchscript, in_arrays])
@pytest.mark.parametrize("target", REFUSED)
def test_pickled_code_in_an_input_is_refused(target, form, world, tmp_path):
    file, command = find(world, REFUSED[target][0]), REFUSED[target][1]
    place, sprung = copy(world, tmp_path / "w", file), tmp_path / "sprung"
    form(place / file, Trap(sprung))
    ended = run(command, place, limits)
    assert not sprung.exists()
    assert ended.code == 2 and file in ended.messages()[0] and ";" in ended.messages()[0]


@pytest.mark.parametrize("form", [plain, in_torchs_archive, in_torchs_old_form, in_torchscript])
@pytest.mark.parametrize("target", MADE_ANEW)
def test_pickled_code_in_a_file_of_ours_is_made_anew(target, form, world, undamaged, tmp_path):
    file, command = find(world, MADE_ANEW[target][0]), MADE_ANEW[target][1]
    place, sprung = copy(world, tmp_path / "w", file), tmp_path / "sprung"
    if target == "tuned prompt":  # which isn't opened beside its result
        (place / find(place, TUNED)).unlink()
    form(place / file, Trap(sprung))
    ended = run(command, place, limits)
    assert not sprung.exists() and (ended.code, ended.out) == (0, undamaged(command)[0])


def test_the_trap_would_spring(tmp_path):
    plain(tmp_path / "x", Trap(tmp_path / "sprung"))
    pickle.loads((tmp_path / "x").read_bytes())
    assert (tmp_path / "sprung").is_dir()


class Script(torch.nn.Module):
    """A module that opens a file when torch.jit.load builds it."""

    def __init__(self, path: str):
        super().__init__()
        self.path, self.sum = path, 0.0

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path, self.training = state
        self.sum = float(torch.from_file(self.path, shared=True, size=4).sum())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_only_read(tmp_path):
    sprung, path = tmp_path / "sprung", tmp_path / "w.pt"
    torch.jit.script(Script(str(sprung))).save(str(path))
    with pytest.raises(UserError, match="holds no state dict"):
        weights.read_state(path)
    assert not sprung.exists()
    torch.jit.load(str(path))
    assert sprung.exists()  # what the archive's code does where it runs


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_behind_a_second_end_of_archive(tmp_path):
    """Python sees the end that is cut short, and no archive; torch goes on to the true one."""
    sprung, path = tmp_path / "sprung", tmp_path / "model.pth.tar-1"
    torch.jit.script(Script(str(sprung))).save(str(path))
    path.write_bytes(path.read_bytes() + b"PK\5\6")
    assert not zipfile.is_zipfile(path)
    for objects in (False, True):
        with pytest.raises(ValueError, match="incomplete"):
            torchfile.load(path, objects)
    assert not sprung.exists()
    torch.load(path, weights_only=False)
    assert sprung.exists()


def rewritten(path, change):
    """Replace each entry of an archive by what `change` makes of it, with the checksum of that."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


@pytest.mark.parametrize("pickled", [b"ccollections\nCounter\nN}U\x04oddsK\x01s\x86b.",
                                     b"ctorch._utils\n_rebuild_tensor_v2\nN}U\x0c__defaults__)s\x86b."])
def test_a_file_changes_nothing_that_it_names(pickled, tmp_path):
    """Its pickle sets an attribute of a class, or of the function of torch's that builds tensors."""
    for name in ("good.pt", "bad.pt"):
        torch.save({"x": torch.zeros(3)}, tmp_path / name)
    rewritten(tmp_path / "bad.pt", lambda name, content: b"\x80\x02" + pickled if name.endswith("data.pkl") else content)
    rebuild = (torch._utils._rebuild_tensor_v2, torchfile.tensor)
    before = [function.__defaults__ for function in rebuild]
    for objects in (False, True):
        with pytest.raises(ValueError):
            torchfile.load(tmp_path / "bad.pt", objects=objects)
    assert [function.__defaults__ for function in rebuild] == before
    assert not hasattr(Counter, "odds")
    assert torchfile.load(tmp_path / "good.pt")["x"].tolist() == [0, 0, 0]


@pytest.mark.filterwarnings("error")
def test_two_entries_of_one_name_are_refused(tmp_path):
    torch.save({"x": torch.zeros(3)}, tmp_path / "x.pt")
    with pytest.warns(UserWarning), zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        name, = (name for name in archive.namelist() if name.endswith("data/0"))
        archive.writestr(name, bytes(12))
    with pytest.raises(ValueError, match="two entries of one name"):
        torchfile.load(tmp_path / "x.pt")


def test_every_entry_is_held_to_its_checksum(tmp_path):
    """Also those that no tensor is made of."""
    torch.save({"x": torch.zeros(3)}, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        for entry in archive.infolist():
            header = whole[entry.header_offset : entry.header_offset + 30]
            lengths = struct.unpack("<HH", header[26:])  # of its name and of what follows it
            at = entry.header_offset + len(header) + sum(lengths)
            assert whole[at:].startswith(archive.read(entry))
            (tmp_path / "y.pt").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(ValueError):
                torchfile.load(tmp_path / "y.pt")


@pytest.mark.parametrize("old", [False, True])
def test_a_tensor_stays_inside_its_storage(old, tmp_path):
    """As it would with torch.load: a size, an offset or a length of a storage that the file doesn't hold."""
    path = tmp_path / "x.pt"
    torch.save({"x": torch.arange(77.0)}, path, _use_new_zipfile_serialization=not old)
    assert torchfile.load(path)["x"].tolist() == list(range(77))
    for number in (78, 99):
        def change(name, content):
            if name.endswith("data.pkl"):  # the last of them: the size, behind the storage's length
                at = content.rindex(b"K\x4d")
                content = content[:at] + b"K" + bytes([number]) + content[at + 2 :]
            return content

        if old:
            content = change("data.pkl", path.read_bytes())
            (tmp_path / "y.pt").write_bytes(content)
        else:
            shutil.copy(path, tmp_path / "y.pt")
            rewritten(tmp_path / "y.pt", change)
        with pytest.raises(ValueError, match="incomplete, or overwritten"):
            torchfile.load(tmp_path / "y.pt")


def test_a_length_that_the_old_form_does_not_hold_takes_no_memory(tmp_path):
    path = tmp_path / "x.pt"
    torch.save({"x": torch.zeros(77)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    at = content.index(b"K\x4d")  # of the storage
    path.write_bytes(content[:at] + b"\x8a\x06" + (10**13).to_bytes(6, "little") + content[at + 2 :])
    with pytest.raises(ValueError, match="incomplete, or overwritten"):
        torchfile.load(path)


@pytest.mark.parametrize("dtype", [*torchfile.TYPES.values(), torch.float8_e4m3fn, torch.uint16])
def test_every_type_is_read_as_torch_reads_it(dtype, tmp_path):
    base = torch.randint(0, 2, (6, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    content = {"x": base, "transposed": base.T, "part": base[2:4, 1:], "none": base[:0],
               "learnt": [1.5, None, "a", (True, b"b")]}
    new_alone = dtype in (torch.float8_e4m3fn, torch.uint16)  # of which torch reads none of the old form
    for new in (True,) if new_alone else (True, False):
        torch.save(content, tmp_path / "x.pt", _use_new_zipfile_serialization=new)
        ours, theirs = torchfile.load(tmp_path / "x.pt"), torch.load(tmp_path / "x.pt", weights_only=True)
        assert ours.keys() == theirs.keys() and ours["learnt"] == theirs["learnt"]
        for name in ("x", "transposed", "part", "none"):
            assert ours[name].dtype == dtype and ours[name].stride() == theirs[name].stride()
            assert ours[name].tolist() == theirs[name].tolist()


@pytest.mark.parametrize("wrapped", [lambda x: x, torch.nn.Parameter], ids=["tensor", "parameter"])
def test_numbers_that_are_meant_with_another_sign_are_refused(wrapped, tmp_path):
    x = torch.ones(2)
    negative = torch.complex(x, -x).conj().imag  # whose bytes are those of -1
    assert negative.tolist() == [1, 1]
    for value in (negative, torch.complex(x, -x).conj()):
        torch.save({"ctx": wrapped(value)}, tmp_path / "x.pt")
        with pytest.raises(ValueError, match="negated or conjugated"):
            torchfile.load(tmp_path / "x.pt")
    for rebuild in ("tensor_v2", "tensor_v3"):  # the last writes types that have no storage of their own
        marks = [torch.float32] * (rebuild == "tensor_v3") + [{"neg": True}]
        with pytest.raises(ValueError, match="negated or conjugated"):
            torchfile.REBUILT[f"torch._utils._rebuild_{rebuild}"](x, 0, (2,), (1,), False, None, *marks)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_archive_holds_what_torch_reads_from_it(tmp_path):
    openai_archive(tiny.state(), tmp_path / "a.pt")
    theirs = torch.jit.load(str(tmp_path / "a.pt")).state_dict()
    content = checkpoint.flat(checkpoint.read_archive(tmp_path / "a.pt"))
    ours = {name: value for name, value in content.items() if torch.is_tensor(value)}
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)


def test_the_source_has_no_other_way_to_run_what_a_file_says():
    """One file unpickles, and makes inert what it doesn't know; torch.load only with weights_only=True, of what
    processes send each other; np.load without pickles; and none of eval, exec, pickle.load, torch.jit, a shell."""
    seen = 0
    for file in [ROOT / "run.py", *(ROOT / "mp").rglob("*.py"), *(ROOT / "data").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name == "np.load":
                seen += 1
                assert given["allow_pickle"] == "False", file
            if name == "torch.load":
                assert file.name == "processes.py" and given["weights_only"] == "True"
            runs = ("eval", "exec", "compile", "pickle.load", "pickle.loads", "os.system", "os.popen")
            assert name not in runs, (file, name)
            assert "Unpickler" not in name or file.name == "torchfile.py", file
            assert not name.startswith("torch.jit") and "shell" not in given, (file, name)
    assert seen


def watched(log):
    """In a child: write every path that is opened, listed, made, renamed or removed to `log`."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    reads = ("os.listdir", "os.scandir")
    writes = {"os.mkdir": 1, "os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.symlink": 2}  # with so many paths

    def hook(event, args):
        if event != "open" and event not in reads and event not in writes:
            return
        how = "w" if event in writes or event == "open" and set(str(args[1])) & set("wax+") else "r"
        for path in args[: writes.get(event, 1)]:
            if isinstance(path, (str, bytes, os.PathLike)):
                os.write(out, f"{how} {os.path.abspath(os.fsdecode(path))!r}\n".encode())

    tiny.make_small()
    sys.addaudithook(hook)


def held_inside(place, secret, log):
    """Hold a watched run to this: it opened nothing of the secret, and wrote only where results and caches go."""
    opened = [(line[0], Path(ast.literal_eval(line[2:]))) for line in log.read_text().splitlines()]
    assert len(opened) > 10
    assert not [path for _, path in opened if secret in [path, *path.parents]]
    written = {path for how, path in opened if how == "w"} - {Path("/dev/null"), place}
    assert all(place in path.parents for path in written), written
    folders = {path.relative_to(place).parts[0] for path in written if "t.html" not in path.name}
    assert folders <= {"runs", "other", "cache"}
    return written


@pytest.fixture
def secret(tmp_path):
    tiny.pictures(tmp_path / "secret", ["0.png", "1.png"], 9)
    return tmp_path / "secret"


def test_split_files_that_point_outside(world, secret, tmp_path):
    split_file = "data/dtd/split_zhou_DescribableTextures.json"
    place = copy(world, tmp_path / "w", split_file)
    whole = json.loads((place / split_file).read_text())
    for path in (str(secret / "0.png"), "../../../../secret/0.png", "banded/../../../../../secret/0.png",
                 "..\\secret\\0.png"):
        (place / split_file).write_text(json.dumps(whole | {"test": [[path, 0, "banded"]]}))
        ended = run(f"{ZEROSHOT} dtd --out other", place, lambda: watched(tmp_path / "log"))
        assert ended.code == 2 and "leaves the image folder" in ended.messages()[0]
    held_inside(place, secret, tmp_path / "log")


@pytest.mark.parametrize("command", [
    "table --data data --datasets dtd --format html --to t.html", f"{ZEROSHOT} dtd --force", f"{ZEROSHOT} imagenet",
    f"{META.format('coop')} --force"])
def test_results_that_point_outside(command, world, secret, tmp_path):
    """Results, prompts and settings name files elsewhere: reads stay in the inputs, writes in runs and cache."""
    result, prompt = find(world, RESULT), find(world, PROMPT)
    settings = prompt.replace("prompt.pt", "settings.json")
    place = copy(world, tmp_path / "w", result, prompt, settings)
    for file in (result, settings):
        content = json.loads((place / file).read_text())
        for key in ("file", "prompt", "path", "../../x", "command"):
            content[key] = content["provenance"][key] = "../../../../secret/0.png"
        (place / file).write_text(json.dumps(content))
    content = torch.load(place / prompt, weights_only=True)
    content["provenance"] |= {"command": "../../secret/0.png", "path": str(secret / "0.png")}
    torch.save(content, place / prompt)
    ended = run(command, place, lambda: watched(tmp_path / "log"))
    assert ended.code == 0, ended.err
    written = held_inside(place, secret, tmp_path / "log")
    assert written or command.endswith("imagenet")


def rewrite(file, change):
    """Change a result, and its name by digits that fit, as who wants to do harm can."""
    result = json.loads(file.read_text())
    change(result)
    words, _ = cells.split_name(file)
    file.unlink()
    file.with_name(f"{words}-{cells.digits_of(result['identity'])}.json").write_text(json.dumps(result))


@pytest.mark.parametrize("odd", [
    dict(hair="long"), dict(weights=None), dict(meta=[]), dict(meta={"settings": 1}), dict(trained_on=5),
    dict(tested_on={"DTD": []}), dict(prompt={}), dict(settings=[])], ids=str)
@pytest.mark.parametrize("pattern", [TUNED, "runs/paper/zeroshot/meta-coop/DTD-seed1-*.json"])
def test_identities_of_odd_forms_in_files_whose_names_fit(pattern, odd, world, tmp_path):
    """Whoever makes a file may choose its digits, too: it counts as damaged."""
    file = find(world, pattern)
    place = copy(world, tmp_path / "w", file)
    rewrite(place / file, lambda result: result["identity"].update(odd))
    ended = run("table --data data --datasets dtd", place, limits)
    assert ended.code == 0 and "8 of 10 results are missing" in ended.err, ended.err


NASTY = '<script>document.title="x"</script><img src=x onerror=alert(1)>&"\'</style></svg>'


def test_a_table_shows_names_and_provenance_as_text(world, tmp_path):
    """A dataset's folder, and every field of its results and logs that may be anything, hold markup."""
    place = copy(world, tmp_path / "w", find(world, USUAL_PROMPT.replace("prompt.pt", "log.jsonl")))
    name = NASTY.replace("/", "\u2215")
    tiny.pictures(place / name, [f"{word}/{i}.png" for word in ("<b>crow<", "owl\"'&") for i in range(4)], 5)
    assert run(f"{ZEROSHOT} {shlex.quote(name)} --method coop --prompt meta", place).code == 0
    results = [file for file in (place / "runs/paper/zeroshot").rglob("*.json") if file.name.startswith("<script>")]
    assert len(results) == 2

    def spoil(result):
        for key in ("commit", "torch", "device", "precision"):
            result["provenance"][key] = NASTY + "\n\\input{/etc/passwd}\x1b[31m"
        result["identity"]["weights"] = NASTY

    for file in results:
        rewrite(file, spoil)
    log, = place.glob(USUAL_PROMPT.replace("prompt.pt", "log.jsonl"))
    line = json.dumps(dict(query_loss=1, grad_norm=2, clipped_norm=1, x=NASTY)) + "\n"
    log.write_text(line * len(log.read_text().splitlines()))

    def shown(form):
        ended = run(f"table --data data --datasets {shlex.quote(name)} --format {form}", place)
        assert ended.code == 0, ended.err
        return ended.out

    page = Checker(shown("html"))
    assert "polyline" in page.tags and not {"script", "img", "input", "b"} & {*page.tags}
    assert all(address.startswith("#") for address in page.addresses)
    assert name in page.texts and any(NASTY in text and "settings" not in text for text in page.texts)
    for form in ("text", "markdown"):
        text = shown(form)
        assert all(c.isprintable() or c == "\n" for c in text)
    assert "<script" not in shown("markdown")

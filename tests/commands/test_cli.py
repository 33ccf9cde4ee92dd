"""run.py as a user meets it: whole small runs on the miniature, and every error in one line with exit code 2."""
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import run as program
from mp.learners import METHODS
from mp.prompts import open_prompt
from mp.store.cells import complete, digits_of

ROOT = Path(__file__).parents[2]
SMALL = ["--epochs", "2", "--datasets", "aircraft", "textures"]
DEEP = ("promptsrc", "maple")


def run(*args, cwd, code=0, **env):
    result = subprocess.run([sys.executable, str(ROOT / "run.py"), *map(str, args)], cwd=cwd, capture_output=True,
                            text=True, env={k: v for k, v in os.environ.items() if k != "MP_DATA"} | env)
    assert result.returncode == code, result.stderr[-2000:]
    assert "Traceback" not in result.stderr
    return result


@pytest.fixture
def fails(monkeypatch, capsys):
    """Calls the program in this process: it must end with `code` and one line of its own that says the right thing."""
    def call(*args, cwd, says, code=2):
        monkeypatch.chdir(cwd)
        assert program.main([str(a) for a in args]) == code
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("run.py: ")]
        assert len(lines) == 1 and says in lines[0], lines
        return lines[0]
    return call


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a short run of every method."""
    folder = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda method: run("meta", "--method", method, *SMALL, cwd=folder), METHODS))
    for result in ended:
        assert "Average" in result.stdout and "aircraft*" in result.stdout and "embedded miniature" in result.stderr
    return folder


def prompt_of(folder, method):
    return complete(folder / "runs/mini/meta" / f"{method}-seed1-epochs2" / "prompt.pt")


def test_meta_leaves_prompt_log_and_settings(trained):
    for method in METHODS:
        folder = prompt_of(trained, method).parent
        assert {p.name for p in folder.iterdir()} == {"prompt.pt", "log.jsonl", "settings.json", ".lock"}
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert [line["epoch"] for line in log] == [1, 2] and all(line["grad_norm"] > 0 for line in log)
        about = json.loads((folder / "settings.json").read_text())
        assert about["identity"]["settings"]["inner_lr"] == (0.02 if method in DEEP else 0.025) / 6
        assert about["identity"]["settings"]["batch"] == (8 if method == "cocoop" else 32)
        assert {"command", "commit", "torch", "device"} <= about["provenance"].keys()
        assert len(about["identity"]["trained_on"]) == 6 and len(about["identity"]["weights"]) == 64


def test_the_same_command_gives_the_same_bytes(trained, tmp_path):
    run("meta", "--method", "cocoop", *SMALL, cwd=tmp_path)
    for name in ("prompt.pt", "settings.json"):
        assert prompt_of(trained, "cocoop").with_name(name).read_bytes() == \
               prompt_of(tmp_path, "cocoop").with_name(name).read_bytes()
    files = [{p.name: json.loads(p.read_text()) for p in (f / "runs/mini/zeroshot/meta-cocoop-epochs2").glob("*.json")}
             for f in (trained, tmp_path)]
    for result in [*files[0].values(), *files[1].values()]:
        assert result["provenance"].pop("seconds") >= 0 and result["provenance"]["device"] == "cpu"
    assert files[0] == files[1] and len(files[0]) == 2


def test_a_finished_run_is_not_repeated_and_others_are_not_mixed(trained):
    before = prompt_of(trained, "coop").stat().st_mtime_ns
    said = run("meta", "--method", "coop", *SMALL, cwd=trained).stderr
    assert "uses 5 that are there" in said and "learns" not in said and "meta-training" not in said
    assert prompt_of(trained, "coop").stat().st_mtime_ns == before
    other = run("meta", "--method", "coop", *SMALL, "--inner-steps", "1", "--first-order", cwd=trained)
    assert "learns 1; evaluates 2; uses 2 that are there" in other.stderr
    assert complete(trained / "runs/mini/meta/coop-seed1-epochs2-inner_steps1-first_orderTrue/prompt.pt").is_file()
    assert prompt_of(trained, "coop").stat().st_mtime_ns == before


def test_ctrl_c_and_the_same_command_go_on(tmp_path):
    command = ["meta", "--method", "coop", "--epochs", "3", "--datasets", "aircraft"]
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    run(*command, cwd=tmp_path / "whole")
    pattern = "runs/mini/meta/coop-seed1-epochs3-*/"
    process = subprocess.Popen([sys.executable, str(ROOT / "run.py"), *command], cwd=tmp_path / "broken", stderr=subprocess.PIPE,
                               text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a job in the
    # background ignores Ctrl-C
    while not list((tmp_path / "broken").glob(pattern + "log.jsonl")):  # written after the first epoch
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert "interrupted; give the same command again to go on" in process.communicate()[1]
    assert process.returncode == 130 and not list((tmp_path / "broken").glob(pattern + "prompt.pt"))
    assert "epoch 1/3" not in run(*command, cwd=tmp_path / "broken").stderr
    (a,), (b,) = (list((tmp_path / name).glob(pattern + "prompt.pt")) for name in ("whole", "broken"))
    assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("args, closed, code", [("table --datasets pets", ">&-", 0), ("table --datasets pets", "2>&-", 0),
                                                ("table --datasets nowhere", ">&- 2>&-", 2), ("data --datasets nowhere", ">&-", 2)])
def test_closed_streams(args, closed, code, tmp_path):
    result = subprocess.run(f"{sys.executable} {ROOT / 'run.py'} {args} {closed}", cwd=tmp_path, shell=True, capture_output=True)
    assert result.returncode == code and b"Traceback" not in result.stderr


def test_of_two_processes_one_trains(tmp_path):
    command = [sys.executable, str(ROOT / "run.py"), "meta", "--method", "coop", *SMALL, "--out", "out"]
    both = [subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted("meta-training" in process.communicate()[1] for process in both)
    assert said == [False, True] and [process.returncode for process in both] == [0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_zeroshot_and_finetune_from_a_prompt_file(trained, method):
    prompt = prompt_of(trained, method)
    result = run("zeroshot", "--method", method, "--prompt", prompt, "an image of a {}.", "--datasets", "aircraft", cwd=trained)
    assert "an image of a {}." in result.stdout and "aircraft" in result.stdout
    options = ["--method", method, "--epochs", "2", "--shots", "4", "--datasets", "aircraft"]
    once = run("finetune", *options, "--init", prompt, "--classes", "new", cwd=trained)
    again = run("finetune", *options, "--init", prompt, "--classes", "new", cwd=trained)
    assert once.stdout == again.stdout
    file, = (trained / "runs/mini/finetune").glob(f"{method}-*-new-*epochs2-shots4*/aircraft-seed1-*.json")
    kept = json.loads(file.read_text())
    assert set(kept["accuracies"]) == {"base", "new", "all", "harmonic_mean"}
    assert kept["few_shot_images"] == 16 and len(kept["losses"]) == 2
    other = run("finetune", *options, "--init", prompt, "--classes", "new", "--shots", "5", cwd=trained)
    assert "tunes 1; uses 1 that is there" in other.stderr and json.loads(file.read_text()) == kept


def test_a_reader_that_stops_reading_is_no_error_to_speak_of(tmp_path):
    """As with `| head`."""
    command = [sys.executable, str(ROOT / "run.py"), "zeroshot", "--datasets", "pets"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 1 and "miniature" in said and "roken pipe" not in said and "Traceback" not in said


def test_help_needs_no_torch():
    code = "import sys, run; from mp.commands import options; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    for command in ([], ["meta"], ["zeroshot"], ["finetune"], ["data"], ["predict"], ["claims"]):
        shown = run(*command, "--help", cwd=ROOT).stdout
        assert "--help" in shown and "%%" not in shown


def test_unknown_words(tmp_path, fails, monkeypatch):
    for args, word in ((["meta", "--method", "vpt"], "vpt"), (["dream"], "dream"), (["meta", "--epoch", "3"], "--epoch"),
                       (["meta", "--epochs", "three"], "three"),
                       (["data", "--workers", "-1"], "-1"), (["finetune", "--classes", "old"], "old")):
        assert word in run(*args, cwd=tmp_path, code=2).stderr
    fails("meta", "--datasets", "MNIST", cwd=tmp_path, says="no dataset 'MNIST' in the mini suite, and no folder of that name")
    (tmp_path / "mine" / "pets").mkdir(parents=True)
    fails("meta", "--datasets", "mine/pets", cwd=tmp_path, says="mine/pets: results are kept by the folder's name")
    fails("meta", "--method", "coop", "--epochs", "1", "--datasets", "mine", "--out", "out", cwd=tmp_path, says="; a dataset of your own has")
    assert not list((tmp_path / "out").rglob("prompt.pt"))  # found before the training
    fails("meta", "--data", "nowhere", cwd=tmp_path, says="nowhere: no such folder")
    monkeypatch.setenv("MP_DATA", "elsewhere")
    fails("meta", cwd=tmp_path, says="elsewhere: no such folder")
    monkeypatch.delenv("MP_DATA")
    fails("meta", "--device", "tpu", cwd=tmp_path, says="--device tpu")
    fails("meta", "--device", "cuda:99", cwd=tmp_path, says="CUDA devices; use --device cpu")
    fails("meta", "--shots", "5", cwd=tmp_path, says="--shots 5 leaves no query image")
    fails("zeroshot", "--prompt", "a photo of a", cwd=tmp_path, says="words need {}")
    assert not (tmp_path / "runs").exists()


def test_weights_that_cannot_be_used(tmp_path, recipe, fails):
    def refuse(says, path=tmp_path / "w.pt"):
        fails("zeroshot", "--weights", path, cwd=tmp_path, says=says)

    state = {k: torch.as_tensor(v) for k, v in recipe.clip_state("A").items()}
    refuse("no such weights file", tmp_path / "absent.pt")
    torch.save(state, tmp_path / "w.pt")
    whole = (tmp_path / "w.pt").read_bytes()
    (tmp_path / "w.pt").write_bytes(whole[: len(whole) // 2])
    refuse("not a readable weights file")
    (tmp_path / "w.pt").write_text("<html>404</html>")
    refuse("not a readable weights file")
    torch.save({"model": [state]}, tmp_path / "w.pt")
    refuse("holds no state dict")
    torch.save({k: v for k, v in state.items() if k != "text_projection"}, tmp_path / "w.pt")
    refuse("text_projection is missing")
    torch.save({k: v for k, v in state.items() if k != "ln_final.bias"}, tmp_path / "w.pt")
    refuse("ln_final.bias missing")
    torch.save(state | {"visual.layer1.0.conv1.weight": torch.ones(1)}, tmp_path / "w.pt")
    refuse("a ResNet CLIP")
    torch.save(state | {"ln_final.bias": torch.full((128,), float("nan"))}, tmp_path / "w.pt")
    refuse("ln_final.bias holds NaN")
    torch.save(state | {"ln_final.bias": torch.ones(64)}, tmp_path / "w.pt")
    refuse("ln_final.bias has shape [64], expected [128]")
    mini = (ROOT / "data/miniature/mini_clip.npz").read_bytes()
    (tmp_path / "w.npz").write_bytes(mini[: len(mini) // 2])
    refuse("not a readable weights file", tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "w2.npz", "w") as z:
        z.writestr("x.npy", b"")
    refuse("not a readable weights file", tmp_path / "w2.npz")


def test_prompts_that_cannot_be_used(trained, tmp_path, fails):
    def refuse(says, *args, command="finetune"):
        fails(command, *args, cwd=tmp_path, says=says)

    refuse("make it with: python run.py meta --method promptsrc --seeds 1", "--init", "meta")
    refuse("make it with: python run.py meta --method coop --seeds 2", "--prompt", "meta", "--method", "coop",
           "--seeds", 2, command="zeroshot")
    refuse("made for --method coop, not cocoop", "--init", prompt_of(trained, "coop"), "--method", "cocoop")
    refuse("holds also text.2; give the --weights that it was made with, no --depth", "--init", prompt_of(trained, "promptsrc"), "--depth", 2)
    refuse("ctx is [4, 128], this model needs [2, 128]; give the --weights", "--init", prompt_of(trained, "promptsrc"), "--length", 2)
    kept = torch.load(prompt_of(trained, "coop"), weights_only=True)
    identity = kept["identity"] | {"weights": "abc"}
    other = tmp_path / f"runs/mini/meta/coop-seed1-{digits_of(identity)}"
    other.mkdir(parents=True)
    torch.save(kept | {"identity": identity}, other / "prompt.pt")
    refuse(f"no meta-prompt coop-seed1; {other.name} differs in weights", "--init", "meta", "--method", "coop")
    whole = prompt_of(trained, "coop").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:700])
    refuse("cut.pt: damaged", "--init", tmp_path / "cut.pt", "--method", "coop")
    torch.save({"method": "coop", "params": {"ctx": torch.full((4, 128), float("nan"))}}, tmp_path / "nan.pt")
    refuse("ctx holds NaN", "--init", tmp_path / "nan.pt", "--method", "coop")
    torch.save({"method": "coop", "params": {"ctx": torch.ones(4, 64)}}, tmp_path / "other.pt")
    refuse("ctx is [4, 64], this model needs [4, 128]; give the --weights", "--init", tmp_path / "other.pt", "--method", "coop")


def test_an_output_folder_that_cannot_be_written(tmp_path, fails):
    (tmp_path / "file").touch()
    fails("meta", "--method", "coop", *SMALL, "--out", "file", cwd=tmp_path, says="can't be written")
    fails("meta", "--method", "coop", *SMALL, "--out", "/proc/none", cwd=tmp_path, says="can't be written")


def test_a_learning_rate_that_explodes_ends_with_code_1(tmp_path, fails):
    line = fails("finetune", "--method", "coop", "--lr", "1e30", "--epochs", "4", "--datasets", "aircraft", cwd=tmp_path,
                 code=1, says="the loss is nan")
    assert line.startswith("run.py: aircraft, epoch ")

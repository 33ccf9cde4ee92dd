"""Every option has the effect that its help tells, and every command of the READMEs runs."""
import re
import shlex
import shutil

import pytest
from PIL import Image

import run as program
from data.miniature import suite as mini
from tests.conftest import ROOT
from tests.walks import outputs, plain
from tests.walks.small import load, run

INPUTS = "--data --weights --workers --tasks --datasets"
ALL = f"{INPUTS} --seeds --out --force --device --precision --memory"
HELP = {
    "data": f"--check {INPUTS}",
    "meta": "--method --depth --length --epochs --inner-steps --inner-lr --meta-lr --clip-norm --shots --support --batch "
            f"--query-batch --first-order --regulator --sum-tasks {ALL}",
    "zeroshot": f"--prompt --method --depth --length {ALL}",
    "predict": "--names --names-from --names-of --prompt --method --out --top --format --data --weights --workers --tasks "
               "--device --precision --memory",
    "finetune": "--init --method --depth --length --classes --epochs --lr --batch --shots --momentum --weight-decay --gpa-mean "
                f"--gpa-std {ALL}",
    "table": f"--run --absolute --paper --format --to --classes --methods {ALL}",
    "claims": f"--method --only --jobs {ALL}", "show": "--export --data --weights",
}
META = {  # flag -> method, and a value that isn't the usual one
    "length": ("coop", 2), "depth": ("maple", 2), "epochs": ("coop", 1), "inner_steps": ("coop", 1), "inner_lr": ("coop", 0.05),
    "meta_lr": ("cocoop", 0.01), "clip_norm": ("coop", 0.7), "shots": ("coop", 4), "support": ("coop", 1), "batch": ("coop", 2),
    "query_batch": ("coop", 2), "first_order": ("coop", True), "sum_tasks": ("coop", True), "memory": ("coop", 0.0001),
}
FINETUNE = {
    "length": ("coop", 3), "depth": ("maple", 2), "epochs": ("promptsrc", 5), "lr": ("coop", 0.01), "batch": ("cocoop", 2),
    "shots": ("coop", 2), "momentum": ("coop", 0.5), "weight_decay": ("coop", 0.3), "gpa_mean": ("promptsrc", 1.5), "gpa_std": ("promptsrc", 0.4),
    "memory": ("promptsrc", 0.0001),
}
SAME = ("memory",)  # has no effect on what is learnt


@pytest.mark.parametrize("command", HELP)
def test_help_names_every_option(command, capsys):
    with pytest.raises(SystemExit) as ended:
        program.main([command, "--help"])
    assert ended.value.code == 0
    assert set(HELP[command].split()) <= set(re.findall(r"(?<=\s)--[a-z][a-z-]*", capsys.readouterr().out))


def flag(name, value):
    words = f"--{name.replace('_', '-')}"
    return words if value is True else f"{words} {value}"


@pytest.mark.parametrize("name", META)
def test_a_setting_of_meta(name, tmp_path):
    method, value = META[name]
    tasks = ("pets", "flowers")[: 1 + (name == "sum_tasks")]  # whose sum is another with two alone
    run(tmp_path, f"meta --method {method} --seeds 2 --datasets cars --tasks {' '.join(tasks)} {flag(name, value)}")
    found = outputs.meta_prompt(tmp_path).params
    tasks = tasks[::-1]  # in the suite's order
    usual = plain.learnt(method, 2, tasks)
    if name in SAME:
        assert plain.close(found, usual)
    else:
        assert plain.close(found, plain.learnt(method, 2, tasks, **{name: value})) and not plain.close(found, usual)


@pytest.mark.parametrize("name", FINETUNE)
def test_a_setting_of_finetune(name, tmp_path):
    method, value = FINETUNE[name]
    run(tmp_path, f"finetune --method {method} --seeds 2 --datasets cars {flag(name, value)}")
    found = outputs.result(tmp_path, tuned=True)
    usual = plain.tuned(method, plain.start(method, 2), "cars", seed=2)[0]
    if name in SAME:
        assert plain.close(found.prompt["params"], usual)
        return
    shape = {name: value} if name in ("length", "depth") else {}
    wanted = plain.tuned(method, plain.start(method, 2, **shape), "cars", seed=2, **{name: value})[0]
    assert plain.close(found.prompt["params"], wanted) and not plain.close(found.prompt["params"], usual)
    assert found.settings[name] == value


def test_options_of_all(tmp_path):
    """The same numbers from a copy of the weights, on the CPU as it is, and of a seed that is given twice."""
    shutil.copy(mini.WEIGHTS, tmp_path / "copy.npz")
    first = run(tmp_path, "zeroshot --datasets cars --prompt 'my {}.'")
    for more in ("--weights copy.npz", "--device cpu --precision fp32 --workers 1 --memory 0.5", "--seeds 1 1"):
        again = run(tmp_path, f"zeroshot --datasets cars --prompt 'my {{}}.' --out other {more}")
        assert again.out == first.out
        assert outputs.result(tmp_path / "other", prompt="my {}.").accuracies == outputs.result(tmp_path / "runs", prompt="my {}.").accuracies
    run(tmp_path, "meta --method coop --datasets cars")
    file = outputs.meta_prompt(tmp_path).path
    for shape in ("--length 2", "--depth 2", "--method cocoop"):
        assert "run.py: " in run(tmp_path, f"zeroshot --datasets cars --prompt {file} {shape}", 2).err


def test_tasks_of_ones_own(tmp_path):
    """The meta-prompt of these tasks is another, and with them `meta` means it."""
    run(tmp_path, "meta --method coop --datasets cars")
    run(tmp_path, "meta --method coop --tasks cars general --datasets cars pets")
    theirs, = [found for found in outputs.meta_prompts(tmp_path) if "cars" in found.content["identity"]["trained_on"]]
    assert plain.close(theirs.params, plain.learnt("coop", tasks=("general", "cars")))
    for tasks, wanted in (("", outputs.meta_prompts(tmp_path)[0]), ("--tasks cars general", theirs)):
        prompt = plain.learner_with("coop", wanted.params)
        shown = run(tmp_path, f"zeroshot --method coop --prompt meta {tasks} --datasets pets").out
        accuracies = plain.accuracies(prompt, "pets")
        base, new, _, whole = outputs.rows(shown, 3)["pets"][1]
        assert [base, new, whole] == [f"{accuracies[part]:.1f}" for part in outputs.PARTS]
        run(tmp_path, f"finetune --method coop --init meta {tasks} --datasets pets --out runs")
    starts = [found.identity["prompt"] for found in outputs.results(tmp_path, tuned=True)]
    assert len(starts) == len(set(starts)) == 2


EDITS = {  # of what the READMEs say: what isn't here, and what takes long
    r"--data DIR": "", r"show PROMPT": "show prompt.pt", r"claims --seeds 1 2 3": "claims --seeds 1 2 --only c --jobs 1 --method coop",
    r"a\.jpg": "a.png", r"table --run\b": "table --run --datasets cars pets", r"table --format": "table --datasets cars pets --format",
}


def test_the_commands_of_the_readmes(tmp_path):
    """In one folder, `table --run` first, as others take its meta-prompts."""
    commands = []
    for page in ("README.md", "mp/README.md"):
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
            commands += [line.partition("run.py ")[2] for line in block.splitlines() if "run.py " in line and "torchrun" not in line]
    commands = [shlex.join(shlex.split(line, comments=True)) for line in commands]
    assert len(commands) > 8
    commands = [line for line in commands if not line.startswith("bench")]
    Image.fromarray(load("cars").test[0].source).save(tmp_path / "a.png")
    for command in sorted(commands, key=lambda line: not line.startswith("table --run")):
        for old, new in EDITS.items():
            command = re.sub(old, new, command)
        said = run(tmp_path, command)
        assert said.out or "--to" in command
        if command.startswith("table --run"):
            shutil.copy(outputs.meta_prompt(tmp_path, method="promptsrc").path, tmp_path / "prompt.pt")
    assert (tmp_path / "table.html").read_text(encoding="utf-8").startswith("<!")

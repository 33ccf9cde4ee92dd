"""Every setting that is given has its effect, and every command of the READMEs runs."""
import re
import shlex
import shutil

import pytest
from PIL import Image

from tests.conftest import ROOT
from tests.walks import outputs, plain
from tests.walks.small import load, run

# Learners, and settings that aren't the usual ones; between them, all that there are.
META = [
    ("coop", "pets", dict(length=2, epochs=3, inner_steps=2, inner_lr=0.05, clip_norm=0.7, shots=4, support=1, batch=2,
                          query_batch=3, first_order=True)),
    ("maple", "pets", dict(depth=2)), ("coop", "pets flowers", dict(meta_lr=0.01, sum_tasks=True)),
]
FINETUNE = [
    ("coop", dict(length=3, lr=0.01, batch=2, shots=2, momentum=0.5, weight_decay=0.3)),
    ("promptsrc", dict(depth=2, epochs=5, gpa_mean=1.5, gpa_std=0.4)),
]


def flags(settings):
    words = [f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}") for name, value in settings.items()]
    return " ".join(words)


def without(settings, name):
    return {other: value for other, value in settings.items() if other != name}


@pytest.mark.parametrize("method, tasks, settings", META, ids=["coop", "maple", "sum"])
def test_settings_of_meta(method, tasks, settings, tmp_path):
    run(tmp_path, f"meta --method {method} --seeds 2 --datasets cars --tasks {tasks} {flags(settings)}")
    params = outputs.meta_prompt(tmp_path).params
    tasks = tuple(tasks.split()[::-1])  # in the suite's order
    assert plain.close(params, plain.learnt(method, 2, tasks, **settings))
    for name in settings:
        assert not plain.close(params, plain.learnt(method, 2, tasks, **without(settings, name))), name


@pytest.mark.parametrize("method, settings", FINETUNE, ids=["coop", "promptsrc"])
def test_settings_of_finetune(method, settings, tmp_path):
    run(tmp_path, f"finetune --method {method} --seeds 2 --datasets cars {flags(settings)}")
    result = outputs.result(tmp_path, tuned=True)
    params = result.prompt["params"]

    def expected(**changes):
        shape = {name: changes[name] for name in plain.SHAPE if name in changes}
        return plain.tuned(method, plain.start(method, 2, **shape), "cars", seed=2, **changes)[0]

    assert plain.close(params, expected(**settings)) and settings.items() <= result.settings.items()
    for name in settings:
        assert not plain.close(params, expected(**without(settings, name))), name


EDITS = {  # of what the READMEs say: what isn't here, and what takes long
    r"--data DIR": "", r"--jobs \d": "--jobs 1", r"show PROMPT": "show prompt.pt", r"a\.jpg": "a.png",
    r"claims --seeds 1 2 3": "claims --seeds 1 2 --only c --jobs 1 --method coop", r"--datasets path/to/folder": "",
    r"^(meta|zeroshot|finetune|table|claims)\b": r"\1 --datasets cars",
}


def test_the_commands_of_the_readmes(tmp_path):
    """In one folder, `table --run` first, as others take its meta-prompts."""
    commands = []
    for page in ("README.md", "mp/README.md"):
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL):
            for line in block.splitlines():
                if "run.py " in line and "torchrun" not in line:
                    commands.append(shlex.join(shlex.split(line.partition("run.py ")[2], comments=True)))
    assert len(commands) > 8
    Image.fromarray(load("cars").test[0].source).save(tmp_path / "a.png")
    for command in sorted(commands, key=lambda line: not line.startswith("table --run")):
        is_first = command.startswith("table --run")
        for old, new in EDITS.items():
            command = re.sub(old, new, command)
        ended = run(tmp_path, command)
        assert ended.out or "--to" in command
        if is_first:
            shutil.copy(outputs.meta_prompt(tmp_path, method="promptsrc").path, tmp_path / "prompt.pt")
    assert (tmp_path / "table.html").read_text(encoding="utf-8").startswith("<!")

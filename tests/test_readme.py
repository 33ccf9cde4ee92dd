"""The three pages: links lead somewhere, linked names are defined there, commands parse, and the Python runs."""
import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import run as program
from mp.commands import options
from mp.prompts import open_prompt
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "mp/README.md", ROOT / "data/README.md"]
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {"#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def names(path: Path) -> set[str]:
    """Return what a Python file defines at its top, or a class of it."""
    defined = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return defined


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page):
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert links
    for text, target, anchor in links:
        if "://" in target:
            continue
        path = (page.parent / target).resolve()
        assert path.exists(), f"{page}: {target}"
        if anchor:
            assert anchor in anchors(path if target else page), f"{page}: {target}{anchor}"
        word = text.strip("`")
        if path.suffix == ".py" and re.fullmatch(r"[A-Za-z_]+", word):
            assert word in names(path), f"{page}: no {word} in {target}"


def test_every_line_of_algorithm_1_is_linked():
    rows = re.findall(r"^\| ([\d, ]+) \|.*\((mp/\S+)\)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    lines = [int(number) for numbers, _ in rows for number in numbers.split(",")]
    assert lines == list(range(1, 11))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_commands_are_understood(page):
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    commands = [line.partition("run.py ")[2] for block in blocks for line in block.splitlines() if "run.py " in line]
    commands += re.findall(r"`(?:python )?run\.py ([^`]+)`", text)
    for command in commands:
        options.parse(shlex.split(command, comments=True), "")
    assert commands


def test_the_first_command_ends_as_the_readme_says(tmp_path, capsys):
    """It finds the prompt that it learns in a minute; how it learns it is held by test_regression.py."""
    folder = tmp_path / "mini/meta/coop-seed1-208787e9b509"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "tests/golden/first_command.pt", folder / "prompt.pt")
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"run\.py (meta --method coop)\n", page)[1]
    assert program.main([*command.split(), "--out", str(tmp_path)]) == 0
    shown, said = capsys.readouterr()
    assert "uses 1 that is there" in said and "meta-training" not in said
    rows = []
    for text in (page, shown):
        lines = [line.split() for line in text.splitlines() if line.startswith("Average ")]
        rows.append([(" ".join(words[:-12]), [float(word) for word in words[-12:]]) for words in lines])
    assert len(rows[0]) == 3
    for (name, numbers), (shown_name, shown_numbers) in zip(*rows, strict=True):
        assert name == shown_name and numbers == pytest.approx(shown_numbers, abs=0.101)  # rounding flips an image


def test_the_python_of_the_readme_runs(tmp_path):
    """With one of the six tasks."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    code = f"from data.miniature import suite\nsuite.TRAINING = ['aircraft']\n{code}"
    ended = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                           env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert ended.returncode == 0, ended.stderr
    numbers = [ast.literal_eval(line) for line in ended.stdout.splitlines()]
    assert [line["epoch"] for line in numbers] == [1, 2, 3]
    assert open_prompt(tmp_path / "prompt.pt").method == "coop"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 165

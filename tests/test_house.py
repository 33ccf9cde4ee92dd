"""The house: who may import whom, what a stranger meets on the way, and what stands in one place alone."""
import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mp.learners import METHODS
from tests.conftest import ROOT

LOOPS = ("mp.meta", "mp.finetune", "mp.tasks", "mp.evaluate")
BELOW_LOOPS = ("mp.maml", "mp.learners", "mp.clip", "mp.settings", "mp.runtime", "data")
BELOW_PROMPTS = ("mp.regulator", *BELOW_LOOPS, "mp.store")
BELOW_EXPERIMENT = (*LOOPS, "mp.prompts", *BELOW_PROMPTS)
FLOORS = {  # what each may import beside itself, from the top; the first that a module's name begins with counts
    "run": ("mp.commands", "mp.runtime"),
    "mp.commands": ("mp", "data"),
    "mp.api": BELOW_EXPERIMENT,
    "mp.report": ("mp.experiment.arms", "mp.learners", "mp.store", "mp.settings", "mp.runtime.errors", "data.suite"),
    "mp.experiment": BELOW_EXPERIMENT,
    **{loop: (*LOOPS, *BELOW_LOOPS) for loop in LOOPS},
    "mp.maml": (),
    "mp.regulator": ("mp.maml",),
    "mp.prompts": BELOW_PROMPTS,
    "mp.learners": ("mp.clip", "mp.settings", "mp.runtime.errors"),
    "mp.clip": ("mp.runtime", "data.names"),
    "mp.store": ("mp.settings", "mp.runtime"),
    "mp.settings": ("mp.runtime.errors",),
    "mp.runtime": ("data.errors",),
    "data.miniature.pretrain": ("data", "mp"),
    "data": (),
    "mp": (),
}
FILES = [ROOT / "run.py", *sorted((ROOT / "mp").rglob("*.py")), *sorted((ROOT / "data").rglob("*.py"))]
TORCH_ALONE = ("mp.maml", "mp.runtime")  # of what isn't Python's own


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every module that the file names in an import, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                inner = ROOT.joinpath(*node.module.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                found.add(f"{node.module}.{alias.name}" if is_module else node.module)
    return found


def begins(name: str, floor: str) -> bool:
    return name == floor or name.startswith(floor + ".")


def misplaced(module: str, imported: set[str]) -> list[str]:
    """What of the imports isn't on a floor that the module may import from."""
    own = next(floor for floor in FLOORS if begins(module, floor))
    ours = [name for name in imported if name.split(".")[0] in ("mp", "data", "run", "tests")]
    return [name for name in ours if not any(begins(name, floor) for floor in (own, *FLOORS[own]))]


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_every_file_imports_from_its_own_floor_or_those_below(path):
    module, imported = module_of(path), imports(path)
    assert not misplaced(module, imported)
    if any(begins(module, floor) for floor in TORCH_ALONE):
        others = {name.split(".")[0] for name in imported} - {"mp", "data", "torch"}
        assert others <= sys.stdlib_module_names


def test_the_rule_would_notice():
    assert misplaced("mp.maml", {"mp.settings"}) and misplaced("data.feed", {"mp.runtime.errors"})
    assert misplaced("mp.meta", {"mp.store.cells"}) and misplaced("mp.clip.model", {"mp.store"})
    assert misplaced("run", {"mp.learners"}) and misplaced("mp.learners.coop", {"mp.runtime.files"})
    assert not misplaced("mp.meta", {"mp.tasks", "torch", "data.dataset"})
    assert "mp.runtime.files" in imports(ROOT / "mp/clip/weights.py") | imports(ROOT / "mp/clip/download.py")


def test_importing_the_outer_loop_loads_at_most_15_modules():
    code = "import sys, mp.meta; print(sum(name.split('.')[0] in ('mp', 'data', 'run') for name in sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 0 < int(out) <= 15


def test_the_loops_know_no_file_and_print_nothing():
    for name in ("maml", "meta", "finetune", "tasks", "evaluate"):
        tree = ast.parse((ROOT / "mp" / f"{name}.py").read_text(encoding="utf-8"))
        called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        assert not called & {"print", "open", "say", "Progress"}
        assert not {"os", "pathlib", "json", "mp.runtime.progress", "mp.runtime.files"} & imports(ROOT / "mp" / f"{name}.py")


def test_methods_are_named_in_their_table_alone():
    """In code; prose may speak of them."""
    for path in FILES:
        if module_of(path) == "mp.learners":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Constant) and node.value in METHODS
            assert not named, f"{path}, line {node.lineno}: {node.value!r}"


MOST_LINES = {  # of every floor, without data/miniature
    "run": 100, "mp.commands": 1000, "mp.api": 370, "mp.report": 810, "mp.experiment": 1160, "mp.meta": 130,
    "mp.finetune": 130, "mp.tasks": 130, "mp.evaluate": 90, "mp.maml": 180, "mp.regulator": 60, "mp.prompts": 330,
    "mp.learners": 700, "mp.clip": 990, "mp.store": 400, "mp.settings": 160, "mp.runtime": 780, "data": 1090,
    "mp": 40,
}


def test_no_floor_grows_unnoticed():
    """Who needs more lines for a floor raises its number here, and says in the commit what they bring."""
    lines = Counter()
    for path in FILES:
        module = module_of(path)
        if not begins(module, "data.miniature"):
            floor = next(floor for floor in FLOORS if begins(module, floor))
            lines[floor] += len(path.read_text(encoding="utf-8").splitlines())
    assert lines.keys() == MOST_LINES.keys()
    assert not [f"{floor}: {lines[floor]} lines" for floor, most in MOST_LINES.items() if lines[floor] > most]


def test_no_function_is_longer_than_40_lines():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno - node.lineno < 40, f"{path}: {node.name}"


def test_no_line_is_longer_than_120_characters():
    for path in FILES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert len(line) <= 120, f"{path}, line {number}"

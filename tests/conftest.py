import json
import os
from pathlib import Path

# Tensors this small gain nothing from a second thread, and one that waits spins: ten times slower on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser):
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda"), help="cuda: where tests/runtime compares a GPU "
                     "with the CPU; all else holds the CPU's numbers, and often forks, which CUDA doesn't survive")


def pytest_configure(config):
    if config.getoption("--device") == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda: torch finds no GPU here")


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """Tests keep out of the user's cache, and have none of the user's data."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    os.environ.pop("MP_DATA", None)
    return folder / "meta-prompts"


@pytest.fixture(scope="session")
def golden_json():
    return json.loads((GOLDEN / "golden_A.json").read_text())


@pytest.fixture(scope="session")
def golden():
    with np.load(GOLDEN / "golden_A.npz") as f:
        return dict(f)


@pytest.fixture(scope="session")
def recipe():
    from tests.golden import recipe
    return recipe


@pytest.fixture(scope="session")
def clip(recipe, tmp_path_factory):
    """The golden CLIP, through the real loading code."""
    from mp.clip.weights import load
    path = tmp_path_factory.mktemp("weights") / "golden.pt"
    torch.save({k: torch.as_tensor(v) for k, v in recipe.clip_state("A").items()}, path)
    return load(path)


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Inputs and results for faults to happen in; read only, tests copy it."""
    from tests.robustness import faults
    place = tmp_path_factory.mktemp("world") / "world"
    place.mkdir()
    faults.build(place)
    return place


@pytest.fixture(scope="session")
def undamaged(world, tmp_path_factory):
    """What a command prints, and the prompts it leaves, where nothing is damaged."""
    from tests.robustness import faults
    known = {}

    def of(command):
        if command not in known:
            place = faults.copy(world, tmp_path_factory.mktemp("whole") / "w")
            known[command] = faults.run(command, place, faults.limits), faults.prompts(place)
        return known[command]
    return of


def pytest_terminal_summary(terminalreporter):
    """What the tests of faults, fuzzing and kills counted."""
    from tests.robustness.counts import lines
    for line in lines():
        terminalreporter.write_line(line)

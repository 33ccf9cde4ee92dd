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

import pytest

from tests.robustness import faults


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Inputs and results for faults to happen in; read only, tests copy it."""
    place = tmp_path_factory.mktemp("world") / "world"
    place.mkdir()
    faults.build(place)
    return place


@pytest.fixture(scope="session")
def undamaged(world, tmp_path_factory):
    """What a command prints, and the prompts it leaves, where nothing is damaged."""
    known = {}

    def outcome(command):
        if command not in known:
            place = faults.copy(world, tmp_path_factory.mktemp("whole") / "w")
            ended = faults.run(command, place, faults.limits)
            assert ended.code == 0, ended.err
            known[command] = ended.out, faults.prompts(place)
        return known[command]
    return outcome

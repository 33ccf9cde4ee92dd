"""A command that is given again computes nothing; one that was interrupted goes on; --force computes anew, what it writes.

That an interrupted --force goes on to the new numbers: tests/store/test_rules.py.
"""
import pytest
import torch

from tests.walks import outputs
from tests.walks.small import counted, no_images, run

COMMANDS = {
    "meta": "meta --method coop --datasets cars --seeds 1 2",
    "zeroshot": "zeroshot --datasets cars pets --prompt 'my {}.' handcrafted",
    "finetune": "finetune --method promptsrc --datasets cars general",
    "table": "table --run --tasks pets --datasets cars --seeds 3",
    "claims": "claims --method coop --only c --tasks pets --datasets pets cars --jobs 1",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_given_again_it_computes_nothing(name, tmp_path):
    first = run(tmp_path, COMMANDS[name])
    before = outputs.everything(tmp_path)
    assert before and not outputs.states(tmp_path)
    with counted() as gradients, no_images():
        assert run(tmp_path, COMMANDS[name]).out == first.out
    assert outputs.everything(tmp_path) == before and gradients.calls == 0


@pytest.mark.parametrize("command, share", [
    ("meta --method coop --regulator --tasks pets --epochs 3", 0.5), ("finetune --method promptsrc --seeds 1 2", 0.4),
    ("table --run --tasks pets --seeds 2", 0.8)])
def test_interrupted_it_goes_on_to_the_same(command, share, tmp_path):
    """Interrupted in the midst of an epoch; only from the last whole one on is computed again."""
    command += " --datasets cars"
    with counted() as whole:
        shown = run(tmp_path, f"{command} --out whole")
    with counted(int(share * whole.calls)), pytest.raises(KeyboardInterrupt):
        run(tmp_path, f"{command} --out broken")
    assert outputs.states(tmp_path / "broken")
    with counted() as rest:
        assert run(tmp_path, f"{command} --out broken").out == shown.out
    assert 0 < rest.calls <= (1 - share + 0.35) * whole.calls  # an epoch is a third at most
    assert not outputs.states(tmp_path / "broken")
    ours, theirs = (outputs.prompts(tmp_path / name) for name in ("broken", "whole"))
    assert ours.keys() == theirs.keys() and ours
    for path, params in theirs.items():
        assert all(torch.equal(ours[path][name], value) for name, value in params.items())
    assert outputs.numbers(tmp_path / "broken") == outputs.numbers(tmp_path / "whole")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    """A folder with a meta-prompt."""
    place = tmp_path_factory.mktemp("learnt")
    run(place, "meta --method coop --tasks pets --datasets cars")
    return place


@pytest.mark.parametrize("command", ["zeroshot --prompt 'my {}.'", "finetune --method coop --init meta", "meta --method coop"])
def test_force_makes_anew_what_the_command_writes(command, learnt):
    command += " --tasks pets --datasets cars"
    first = run(learnt, command)
    before = outputs.everything(learnt)
    assert run(learnt, f"{command} --force").out == first.out
    after = outputs.everything(learnt)
    new = [path for path in before if after[path][0] != before[path][0]]
    prompt = outputs.meta_prompt(learnt).path
    assert after.keys() == before.keys() and new and (prompt in new) == command.startswith("meta")

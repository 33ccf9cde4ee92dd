"""A command that is given again computes nothing; one that was interrupted goes on; --force computes anew, what it writes."""
import pytest
import torch

from tests.walks import outputs
from tests.walks.small import counted, no_images, run

COMMANDS = {
    "meta": "meta --method cocoop --datasets cars --seeds 1 2", "zeroshot": "zeroshot --datasets cars pets --prompt 'my {}.' handcrafted",
    "finetune": "finetune --method promptsrc --datasets cars general", "table": "table --run --tasks pets --datasets cars --seeds 3",
    "claims": "claims --method coop --only c --tasks pets --datasets pets cars --jobs 1",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_given_again_it_computes_nothing(name, tmp_path):
    first = run(tmp_path, COMMANDS[name])
    before = outputs.everything(tmp_path)
    assert before and not outputs.states(tmp_path)
    with counted() as gradients:
        again = run(tmp_path, COMMANDS[name])
    assert again.out == first.out and outputs.everything(tmp_path) == before and gradients.calls == 0
    if name != "finetune":
        with no_images():
            assert run(tmp_path, COMMANDS[name]).out == first.out


@pytest.mark.parametrize("command, share", [("meta --method coop --epochs 4", 0.7), ("meta --method coop --regulator --epochs 3", 0.5),
                                            ("finetune --method promptsrc --seeds 1 2", 0.4), ("finetune --method cocoop --shots 5 --batch 1", 0.9),
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


@pytest.mark.parametrize("command", ["zeroshot --prompt 'my {}.'", "finetune --method coop --init meta", "meta --method coop"])
def test_force_makes_anew_what_the_command_writes(command, tmp_path):
    run(tmp_path, "meta --method coop --datasets cars")
    first = run(tmp_path, f"{command} --datasets cars")
    before = outputs.everything(tmp_path)
    assert run(tmp_path, f"{command} --datasets cars --force").out == first.out
    after = outputs.everything(tmp_path)
    new = [path for path in before if after[path][0] != before[path][0]]
    prompt = outputs.meta_prompt(tmp_path).path
    assert after.keys() == before.keys() and new and (prompt in new) == command.startswith("meta")


def test_an_interrupted_force_goes_on_to_the_new_numbers(tmp_path):
    """And not back to the older result beside the state."""
    command = "finetune --method coop --shots 5 --batch 2 --datasets cars"
    run(tmp_path, command)
    with counted(8), pytest.raises(KeyboardInterrupt):
        run(tmp_path, f"{command} --force")
    with counted() as rest:
        run(tmp_path, command)
    assert rest.calls > 0 and not outputs.states(tmp_path)

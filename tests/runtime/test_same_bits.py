"""Under torch's deterministic mode, which raises for an operation without one order, everything works, the same twice."""
import pytest
import torch
from torch import Tensor

from mp import maml
from mp.finetune import finetune
from mp.learners import make_learner
from mp.learners.prompts import class_prompts
from mp.runtime.device import MEMORY, choose
from tests.learners import test_learners
from tests.runtime.test_precision import undone_determinism
from tests.test_finetune import golden_batches, settings_of

CASES = [*test_learners.CASES, "maple"]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(params=DEVICES)
def device(request, clip):
    """CLIP is there, and deterministic mode is on: on a GPU as `choose` leaves it."""
    with undone_determinism():
        device = choose(request.param).device
        torch.set_deterministic_debug_mode("error")
        clip.to(device)
        yield device
        clip.to("cpu")


def everything(case, clip, recipe, device) -> list[Tensor]:
    """A meta-gradient, fine-tuned prompts and logits."""
    if case == "maple":
        learner = make_learner(case, clip, 3, 2, torch.Generator().manual_seed(0))
    else:
        learner = test_learners.golden_learner(case, clip, recipe).to(device)
    classes = learner.prepare(clip, recipe.CLASSES["A"])
    labels = torch.tensor([3, 0, 3, 6], device=device)
    batch = (*learner.inputs(clip, torch.from_numpy(recipe.images("A", "batch", 4)).to(device)), labels)
    params = {k: p.detach() for k, p in learner.named_parameters()}

    def loss(p, part):
        return maml.run(learner, p, clip, classes, *part)

    losses, gradient = maml.meta_gradient(loss, params, [[(batch, 1.0)]] * 2, [(batch, 1.0)], maml.sgd(0.1))

    def batches(epoch):
        for images, labels in golden_batches(recipe)(epoch):
            yield images.to(device), labels.to(device)

    *_, state = finetune(learner, clip, classes, batches, settings_of(case, epochs=2))
    learner.load_state_dict(state.prompt)
    with torch.no_grad():
        logits = learner.classifier(clip, class_prompts(clip, recipe.CLASSES["A"]))(batch[0])
    return [losses, *gradient.values(), *state.prompt.values(), logits]


@pytest.mark.parametrize("memory", [MEMORY, 500_000], ids=["whole", "two chunks"])
@pytest.mark.parametrize("case", CASES)
def test_everything_twice(case, memory, clip, recipe, device, monkeypatch):
    monkeypatch.setattr(clip, "memory", memory)
    first, second = (everything(case, clip, recipe, device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_operation_without_one_order_would_be_noticed(device):
    with pytest.raises(RuntimeError, match="deterministic"):
        torch.zeros(2, device=device).put_(torch.zeros(2, dtype=torch.long, device=device), torch.ones(2, device=device))

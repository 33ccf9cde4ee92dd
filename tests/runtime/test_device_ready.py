"""Training steps never wait for the device: they run on torch's meta device, where tensors have no values."""
import pytest
import torch

from mp import maml
from mp.runtime.device import MEMORY
from mp.finetune import momentum_step
from mp.settings import FinetuneSettings
from tests.learners.test_learners import golden_learner


def to_meta(value):
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    return type(value)(*map(to_meta, value)) if hasattr(value, "_fields") else tuple(map(to_meta, value))


@pytest.fixture
def step(clip, recipe):
    """A function that gives a loss of (params, batch), params and a batch, all of them on the meta device."""
    def make(case, memory=MEMORY):
        learner = golden_learner(case, clip, recipe)
        batch = (*learner.inputs(clip, torch.from_numpy(recipe.images("A", "batch", 4))), torch.arange(4))
        clip.memory = memory
        classes = to_meta(learner.prepare(clip, recipe.CLASSES["A"]))
        params = {k: p.detach().to("meta").requires_grad_() for k, p in learner.named_parameters()}
        clip.to("meta")
        learner.to("meta")
        return lambda p, part: maml.run(learner, p, clip, classes, *part), params, to_meta(batch)

    state = clip.state_dict()
    yield make
    clip.load_state_dict(state, assign=True)
    clip.requires_grad_(False)
    clip.memory = MEMORY


@pytest.mark.parametrize("case", ["coop", "cocoop", "promptsrc3"])
@pytest.mark.parametrize("memory", [MEMORY, 500_000], ids=["whole", "two chunks"])
def test_meta_training_never_waits(case, memory, step):
    loss, params, batch = step(case, memory)
    _, grad = maml.meta_gradient(loss, params, [[(batch, 1.0)]], [(batch, 1.0)], maml.sgd(0.1))
    new, _, norm = maml.meta_update(params, grad, maml.adam_start(params), 0.1, 5.0)
    assert all(new[k].shape == p.shape and new[k].is_meta for k, p in params.items()) and norm.is_meta


def test_fine_tuning_never_waits(step):
    """Its losses are those of meta-training."""
    loss, params, batch = step("coop")
    momentum = {k: torch.zeros_like(p) for k, p in params.items()}
    settings = FinetuneSettings("coop", epochs=1, lr=0.1, batch=4)
    for _ in range(2):
        grads = torch.autograd.grad(loss(params, batch), tuple(params.values()))
        params, momentum = momentum_step(params, dict(zip(params, grads)), momentum, 0.1, settings)
        params = maml.leaves(params)
    assert all(m.is_meta for m in momentum.values())


def test_waiting_would_be_noticed(step):
    loss, params, batch = step("coop")
    for wait in (torch.Tensor.item, torch.Tensor.cpu, bool, lambda x: x[x > 0], lambda x: x.expand(2).nonzero()):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait(loss(params, batch))

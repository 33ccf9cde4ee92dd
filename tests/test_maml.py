"""The meta-gradient, clipping and Adam against autograd on the plain formula, finite differences and torch.optim."""
import weakref

import pytest
import torch
from torch import nn

from mp import maml


def problem(seed=0):
    """A small smooth loss of two tensors that interact, with batches, in float64."""
    gen = torch.Generator().manual_seed(seed)
    params = {"w": torch.randn(3, 4, generator=gen, dtype=torch.float64),
              "b": torch.randn(3, generator=gen, dtype=torch.float64)}
    batches = [(torch.randn(5, 4, generator=gen, dtype=torch.float64), torch.randint(3, (5,), generator=gen))
               for _ in range(9)]

    def loss(p, batch):
        x, y = batch
        return nn.functional.cross_entropy(torch.tanh(x @ p["w"].T * p["b"]) * 3 + p["b"] ** 2, y)

    return loss, params, batches


def whole(batches):
    """Each batch as its only part."""
    return [[(batch, 1.0)] for batch in batches]


def in_halves(batches):
    """Each batch as two parts, of 3 and 2 of its rows."""
    return [[((x[rows], y[rows]), len(x[rows]) / 5) for rows in (slice(3), slice(3, 5))] for x, y in batches]


def through_all_steps(loss, params, support, query, update, names, first_order=False):
    """The query loss and line 9 by one graph through all inner steps; first order takes gradients for constants."""
    def of_batch(p, batch):
        inner = {k: p[k] for k in names}
        return inner, sum(weight * loss(inner, part) for part, weight in batch)

    p = start = {k: v.detach().clone().requires_grad_() for k, v in params.items()}
    for batch in support:
        inner, value = of_batch(p, batch)
        grads = torch.autograd.grad(value, tuple(inner.values()), create_graph=not first_order)
        p = update(p, dict(zip(inner, grads)))
    _, value = of_batch(p, query)
    return value.detach(), dict(zip(start, torch.autograd.grad(value, tuple(start.values()), materialize_grads=True)))


def relatively_near(found, expected, tolerance):
    """Every tensor, relative to the largest of its entries."""
    assert found.keys() == expected.keys()
    for name, e in expected.items():
        assert found[name].dtype == e.dtype == torch.float64
        torch.testing.assert_close(found[name], e, rtol=0, atol=tolerance * float(e.abs().max()))


STEPS_KEPT = [(0, 0), (0, 3), (1, 0), (1, 1), (4, 0), (4, 1), (4, 3), (4, 4), (4, 9)]  # more than all are all


def equals_one_graph(update, plainly, params, steps, kept, divide, first_order):
    """The meta-gradient with `update` is that of one graph through all steps with `plainly`, the formula written out
    once more; and as many passes were saved as graphs were kept."""
    loss, learnt, batches = problem()
    params, calls = learnt | params, []

    def counted(p, part):
        calls.append(part)
        return loss(p, part)

    support, (query,) = divide(batches[:steps]), divide(batches[4:5])
    losses, grad = maml.meta_gradient(counted, params, support, query, update, list(learnt), first_order, kept)
    value, expected = through_all_steps(loss, params, support, query, plainly, list(learnt), first_order)
    assert len(losses) == steps + 1 and abs(losses[-1] - value) < 1e-12
    assert steps == 0 or abs(losses[0] - sum(w * loss(params, part) for part, w in support[0])) < 1e-12
    for name, e in expected.items():
        assert e.abs().max() > 1e-3 or (steps == 0 and name not in learnt and not e.any())
    relatively_near(grad, expected, 1e-10)
    passes = steps + 1 + (0 if first_order else steps - min(kept, steps))
    assert len(calls) == passes * len(query)


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("divide", [whole, in_halves])
@pytest.mark.parametrize("steps, kept", STEPS_KEPT)
def test_equals_autograd_through_all_steps(steps, kept, divide, first_order):
    def line_7(p, grad):
        return {k: p[k] - 0.3 * grad[k] for k in p}

    equals_one_graph(maml.sgd(0.3), line_7, {}, steps, kept, divide, first_order)


@pytest.mark.parametrize("first_order", [False, True], ids=["second order", "first order"])
@pytest.mark.parametrize("divide", [whole, in_halves])
@pytest.mark.parametrize("steps, kept", STEPS_KEPT)
def test_any_update_will_do(steps, kept, divide, first_order):
    """One with learnt rates of its own, which change from step to step; it is linear neither in p nor in the gradient."""
    def update(p, grad):
        stepped = {k: p[k] - p[f"rate {k}"] * torch.tanh(g) - 0.1 * p[k] ** 2 for k, g in grad.items()}
        return stepped | {f"rate {k}": p[f"rate {k}"] * 0.9 for k in grad}

    rates = {"rate w": torch.tensor(0.3, dtype=torch.float64), "rate b": torch.full((3,), 0.2, dtype=torch.float64)}
    equals_one_graph(update, update, rates, steps, kept, divide, first_order)


def test_a_batch_in_parts_is_the_same_batch():
    loss, params, batches = problem(6)
    x, y = (torch.cat(tensors) for tensors in zip(*batches[:2]))  # 10 rows

    def parts(*sizes):
        return [((rows, labels), len(rows) / 10) for rows, labels in zip(x.split(sizes), y.split(sizes))]

    query = [(batches[4], 1.0)]
    once, thrice = ([parts(*sizes), *whole(batches[2:4])] for sizes in ((10,), (4, 4, 2)))
    for a, b in zip(*(maml.meta_gradient(loss, params, support, query, maml.sgd(0.3)) for support in (once, thrice))):
        for k in a if isinstance(a, dict) else [slice(None)]:
            torch.testing.assert_close(a[k], b[k], rtol=0, atol=1e-12)


def test_equals_finite_differences():
    loss, params, batches = problem(1)
    support, query, update, eps = whole(batches[:4]), [(batches[4], 1.0)], maml.sgd(0.3), 1e-5
    _, grad = maml.meta_gradient(loss, params, support, query, update)

    def outer(p):
        return float(loss(maml.adapt(loss, p, support, update)[0], batches[4]).detach())

    for k in params:
        for i in range(params[k].numel()):
            up, down = ({n: v.clone() for n, v in params.items()} for _ in range(2))
            up[k].view(-1)[i] += eps
            down[k].view(-1)[i] -= eps
            assert abs((outer(up) - outer(down)) / (2 * eps) - grad[k].view(-1)[i]) < 1e-8


def test_second_order_is_not_first_order():
    loss, params, batches = problem(2)
    query, update = [(batches[4], 1.0)], maml.sgd(0.3)
    _, second = maml.meta_gradient(loss, params, whole(batches[:4]), query, update)
    value, first = maml.meta_gradient(loss, params, whole(batches[:4]), query, update, first_order=True)
    assert (second["w"] - first["w"]).abs().max() > 1e-2
    # First order is the query gradient at the adapted parameters.
    adapted, _, _ = maml.adapt(loss, params, whole(batches[:4]), update)
    value_, expected, _ = maml.value_and_grad(loss, adapted, query)
    assert value[-1] == value_ and all(torch.equal(first[k], expected[k]) for k in params)
    # Without inner steps there is nothing to differ in.
    _, a = maml.meta_gradient(loss, params, [], query, update)
    _, b = maml.meta_gradient(loss, params, [], query, update, first_order=True)
    assert all(torch.equal(a[k], b[k]) for k in params)


def test_arguments_are_left_as_they_are():
    loss, params, batches = problem(3)
    before = {k: v.clone() for k, v in params.items()}
    _, grad = maml.meta_gradient(loss, params, whole(batches[:4]), [(batches[4], 1.0)], maml.sgd(0.3), kept_graphs=2)
    maml.meta_update(params, grad, maml.adam_start(params), 0.1, 0.01)
    assert all(torch.equal(params[k], before[k]) and not params[k].requires_grad for k in params)


def test_update_equals_torch_adam_with_clip_grad_norm():
    gen = torch.Generator().manual_seed(4)
    params = {"a": torch.randn(7, 3, generator=gen, dtype=torch.float64),
              "b": torch.randn(5, generator=gen, dtype=torch.float64)}
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    optimizer, state = torch.optim.Adam(leaves.values(), lr=0.01), maml.adam_start(params)
    clipped = 0
    for _ in range(50):
        scale = float(torch.rand((), generator=gen)) * 4  # norms from about 0 to 20, around γ = 5
        grad = {k: scale * torch.randn(v.shape, generator=gen, dtype=torch.float64) for k, v in params.items()}
        params, state, norm = maml.meta_update(params, grad, state, 0.01, 5.0)
        for k, p in leaves.items():
            p.grad = grad[k].clone()
        total = torch.nn.utils.clip_grad_norm_(leaves.values(), 5.0)
        optimizer.step()
        clipped += bool(total > 5)
        assert abs(total - norm) < 1e-12
        for k in params:
            torch.testing.assert_close(params[k], leaves[k].detach(), rtol=0, atol=1e-8)
    assert 5 < clipped < 45


def test_clipping_is_line_10():
    grad = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([[4.0]])}
    for gamma, factor in ((5.0, 1.0), (10.0, 1.0), (1.0, 0.2)):
        clipped, norm = maml.clip_by_norm(grad, gamma)
        assert norm == 5 and torch.allclose(clipped["b"], 4.0 * torch.tensor([[factor]]))


def test_a_misspelt_or_missing_parameter_is_refused():
    layer = nn.Linear(2, 2)
    good = {"weight": torch.eye(2), "bias": torch.ones(2)}
    assert torch.equal(maml.run(layer, good, torch.ones(2)), 2 * torch.ones(2))
    for bad in ({"weight": good["weight"]}, {"weight": good["weight"], "biass": good["bias"]}, good | {"x": good["bias"]}):
        with pytest.raises(KeyError, match="missing or unknown"):
            maml.run(layer, bad, torch.ones(2))


def test_a_parameter_the_loss_ignores_is_an_error():
    params = {"a": torch.ones(2), "unused": torch.ones(2)}
    batch = [(None, 1.0)]

    def loss(p, part):
        return p["a"].pow(2).sum()

    for names in ([], ["a", "unused"]):
        with pytest.raises(RuntimeError, match="not have been used"):
            maml.meta_gradient(loss, params, [batch], batch, maml.sgd(0.1), names)
    # One that isn't the loss's but the update's may have a gradient of zero.
    _, grad = maml.meta_gradient(loss, params, [batch], batch, lambda p, g: p | {"a": p["a"] - 0.1 * g["a"]}, ["a"])
    assert torch.equal(grad["unused"], torch.zeros(2)) and grad["a"].all()


def test_plain_steps_need_a_gradient_of_everything():
    with pytest.raises(KeyError, match="other"):
        maml.sgd(0.1)({"a": torch.ones(2), "other": torch.ones(2)}, {"a": torch.ones(2)})


def test_graph_memory_does_not_grow_with_steps():
    """Tensors that autograd keeps alive for its backward pass, at their peak."""
    loss, params, batches = problem(5)

    def peak(steps, kept=0):
        alive, most = 0, 0

        class Kept:
            def __init__(self, tensor):
                nonlocal alive, most
                self.tensor = tensor
                alive += tensor.numel()
                most = max(most, alive)

            def __del__(self):
                nonlocal alive
                alive -= self.tensor.numel()

        with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
            support = whole(batches[i % 4] for i in range(steps))
            maml.meta_gradient(loss, params, support, [(batches[4], 1.0)], maml.sgd(0.3), kept_graphs=kept)
        return most

    assert peak(1) > 0 and peak(16) <= 1.05 * peak(1)
    assert peak(16, kept=8) > 4 * peak(16)  # it would be noticed


def test_on_the_way_back_graphs_go_one_by_one(monkeypatch):
    """The last step's first; before each product, those of the steps that are still to come are there, and no others."""
    loss, params, batches = problem(9)
    graphs, alive = [], []
    value_and_grad, back_through = maml.value_and_grad, maml.back_through

    def watched(*args):
        value, grad, parts = value_and_grad(*args)
        graphs.extend(weakref.ref(part["w"]) for part in parts)
        return value, grad, parts

    def counted(*args):
        alive.append([graph() is not None for graph in graphs])
        return back_through(*args)

    monkeypatch.setattr(maml, "value_and_grad", watched)
    monkeypatch.setattr(maml, "back_through", counted)
    maml.meta_gradient(loss, params, whole(batches[:3]), [(batches[4], 1.0)], maml.sgd(0.3), kept_graphs=3)
    assert alive == [[True, True, True], [True, True, False], [True, False, False]]

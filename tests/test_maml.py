"""The meta-gradient, clipping and Adam against autograd on the plain formula, finite differences and torch.optim."""
import weakref

import pytest
import torch
from torch import nn

from mp import maml, regulator


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


def through_all_steps(loss, params, support, query, lr):
    p = {k: v.clone().requires_grad_() for k, v in params.items()}
    q = p
    for batch in support:
        grads = torch.autograd.grad(loss(q, batch), tuple(q.values()), create_graph=True)
        q = {k: v - lr * g for (k, v), g in zip(q.items(), grads)}
    value = sum(w * loss(q, b) for b, w in query)
    return value.detach(), dict(zip(p, torch.autograd.grad(value, tuple(p.values()))))


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_equals_autograd_through_all_steps(steps):
    loss, params, batches = problem()
    query = [(batches[4], 0.3), (batches[5], 0.7)]
    value, grad = maml.meta_gradient(loss, params, whole(batches[:steps]), query, 0.3)
    value_, grad_ = through_all_steps(loss, params, batches[:steps], query, 0.3)
    assert len(value) == steps + 1 and abs(value[-1] - value_) < 1e-12
    assert steps == 0 or value[0] == loss(params, batches[0])
    for k in params:
        assert grad_[k].abs().max() > 1e-3
        torch.testing.assert_close(grad[k], grad_[k], rtol=0, atol=1e-10)


def test_a_batch_in_parts_is_the_same_batch():
    loss, params, batches = problem(6)
    x, y = (torch.cat(tensors) for tensors in zip(*batches[:2]))  # 10 rows

    def parts(*sizes):
        return [((rows, labels), len(rows) / 10) for rows, labels in zip(x.split(sizes), y.split(sizes))]

    query = [(batches[4], 1.0)]
    once, thrice = ([parts(*sizes), *whole(batches[2:4])] for sizes in ((10,), (4, 4, 2)))
    for a, b in zip(*(maml.meta_gradient(loss, params, support, query, 0.3) for support in (once, thrice))):
        for k in a if isinstance(a, dict) else [slice(None)]:
            torch.testing.assert_close(a[k], b[k], rtol=0, atol=1e-12)


def test_equals_finite_differences():
    loss, params, batches = problem(1)
    support, query, lr, eps = whole(batches[:4]), [(batches[4], 1.0)], 0.3, 1e-5
    _, grad = maml.meta_gradient(loss, params, support, query, lr)

    def outer(p):
        return float(loss(maml.adapt(loss, p, support, lr)[0][-1], batches[4]).detach())

    for k in params:
        for i in range(params[k].numel()):
            up, down = ({n: v.clone() for n, v in params.items()} for _ in range(2))
            up[k].view(-1)[i] += eps
            down[k].view(-1)[i] -= eps
            assert abs((outer(up) - outer(down)) / (2 * eps) - grad[k].view(-1)[i]) < 1e-8


def test_second_order_is_not_first_order():
    loss, params, batches = problem(2)
    query = [(batches[4], 1.0)]
    _, second = maml.meta_gradient(loss, params, whole(batches[:4]), query, 0.3)
    value, first = maml.meta_gradient(loss, params, whole(batches[:4]), query, 0.3, first_order=True)
    assert (second["w"] - first["w"]).abs().max() > 1e-2
    # First order is the query gradient at the adapted parameters.
    adapted = maml.adapt(loss, params, whole(batches[:4]), 0.3)[0][-1]
    value_, expected = maml.value_and_grad(loss, adapted, query)
    assert value[-1] == value_ and all(torch.equal(first[k], expected[k]) for k in params)
    # Without inner steps there is nothing to differ in.
    _, a = maml.meta_gradient(loss, params, [], query, 0.3)
    _, b = maml.meta_gradient(loss, params, [], query, 0.3, first_order=True)
    assert all(torch.equal(a[k], b[k]) for k in params)


def test_arguments_are_left_as_they_are():
    loss, params, batches = problem(3)
    before = {k: v.clone() for k, v in params.items()}
    _, grad = maml.meta_gradient(loss, params, whole(batches[:4]), [(batches[4], 1.0)], 0.3)
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
    with pytest.raises(RuntimeError, match="not have been used"):
        maml.meta_gradient(lambda p, _: p["a"].sum(), params, [[(None, 1.0)]], [(None, 1.0)], 0.1)


def test_graph_memory_does_not_grow_with_steps():
    """Tensors that autograd keeps alive for its backward pass, at their peak."""
    loss, params, batches = problem(5)

    def peak(steps):
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
            maml.meta_gradient(loss, params, whole(batches[i % 4] for i in range(steps)), [(batches[4], 1.0)], 0.3)
        return most

    assert peak(1) > 0 and peak(16) <= 1.05 * peak(1)


@pytest.mark.parametrize("kept", [1, 3, 4, 9])
def test_kept_graphs_change_no_number(kept):
    """Against graphs that are computed anew, and autograd through all steps; with batches in parts, and with a regulator."""
    loss, params, batches = problem(7)
    support = [[(batches[i], 0.4), (batches[i + 4], 0.6)] for i in range(4)]
    query = [(batches[8], 1.0)]
    phi = {k: v + 0.3 for k, v in regulator.start(params, 0).items()}
    for regulated in ((), (False, regulator.regulate, phi)):
        losses, anew = maml.meta_gradient(loss, params, support, query, 0.3, *regulated)
        losses_, ours = maml.meta_gradient(loss, params, support, query, 0.3, *regulated, kept=kept)
        torch.testing.assert_close(losses, losses_, rtol=0, atol=1e-12)
        for k in anew:
            torch.testing.assert_close(anew[k], ours[k], rtol=0, atol=1e-10)
    _, plain = maml.meta_gradient(loss, params, whole(batches[:4]), query, 0.3, kept=kept)
    for k, expected in through_all_steps(loss, params, batches[:4], query, 0.3)[1].items():
        torch.testing.assert_close(plain[k], expected, rtol=0, atol=1e-10)


def test_a_kept_graph_saves_a_pass_and_goes_when_it_is_used():
    loss, params, batches = problem(8)
    calls = []

    def counted(p, batch):
        calls.append(batch)
        return loss(p, batch)

    def passes(kept, first_order=False):
        calls.clear()
        maml.meta_gradient(counted, params, whole(batches[:4]), [(batches[4], 1.0)], 0.3, first_order, kept=kept)
        return len(calls)

    assert [passes(kept) for kept in range(6)] == [9, 8, 7, 6, 5, 5] and passes(4, first_order=True) == 5
    _, _, steps = maml.adapt(loss, params, whole(batches[:4]), 0.3, kept=2)
    assert [bool(step.graphs) for step in steps] == [False, False, True, True]


def test_on_the_way_back_graphs_go_one_by_one(monkeypatch):
    """The last step's first; before each product, those of the steps that are still to come are there, and no others."""
    loss, params, batches = problem(9)
    graphs, alive = [], []
    value_and_grad, product = maml.value_and_grad, maml.hessian_vector

    def watched(*args):
        found = value_and_grad(*args)
        if len(args) == 4 and args[3]:
            graphs.append(weakref.ref(args[3][0]["w"]))
        return found

    def counted(*args):
        alive.append([graph() is not None for graph in graphs])
        return product(*args)

    monkeypatch.setattr(maml, "value_and_grad", watched)
    monkeypatch.setattr(maml, "hessian_vector", counted)
    maml.meta_gradient(loss, params, whole(batches[:3]), [(batches[4], 1.0)], 0.3, kept=3)
    assert alive == [[True, True, True], [True, True, False], [True, False, False]]

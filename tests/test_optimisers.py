"""Against torch's own."""

import pytest
import torch
from torch import nn

from reverie.optimisers import Adam, Descent, Soap


def parameters():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in ((3, 4), (5,), ())]


def gradients(step):
    torch.manual_seed(step)
    return [torch.randn(3, 4), torch.randn(5) if step % 3 else None, torch.randn(())]


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_steps_are_those_of_torch(decay):
    ours, theirs = parameters(), parameters()
    adam = Adam(ours, 0.8, 0.95, decay)
    optimiser = torch.optim.AdamW(theirs, 1.0, (0.8, 0.95), weight_decay=decay, fused=True)
    for step in range(20):
        rate = 0.1 / (step + 1)
        for group in (ours, theirs):
            for p, g in zip(group, gradients(step), strict=True):
                p.grad = g
        adam.step(rate)
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


def test_a_gradient_may_lie_in_memory_as_it_likes():
    ours, theirs = (nn.Parameter(torch.ones(2, 3, 4)) for _ in range(2))
    adam, optimiser = Adam([ours], 0.8, 0.95, 0.1), torch.optim.AdamW([theirs], 0.1, (0.8, 0.95), weight_decay=0.1, foreach=False)  # fmt: skip
    for step in range(5):
        torch.manual_seed(step)
        ours.grad = theirs.grad = torch.randn(2, 4, 3).mT  # as products of matrices leave it
        adam.step(0.1)
        optimiser.step()
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("made", [Adam, Soap])
def test_a_restored_state_goes_on_as_if_nothing_had_been(made):
    runs = []
    for stop in (None, 4):
        group = parameters()
        mover = made(group, 0.9, 0.99, 0.1)
        for step in range(20):
            if step == stop:
                kept = {k: v.clone() for k, v in mover.tensors()}
                mover = made(group, 0.9, 0.99, 0.1)
                mover.restore(kept)
            for p, g in zip(group, gradients(step), strict=True):
                p.grad = g
            mover.step(0.01)
        runs.append(group)
    for a, b in zip(*runs, strict=True):
        assert torch.equal(a, b)


def test_a_state_of_other_parameters_is_refused():
    adam = Adam(parameters(), 0.9, 0.99, 0.0)
    kept = dict(adam.tensors())
    with pytest.raises(KeyError):
        adam.restore({k: v for k, v in kept.items() if k != "1.mean"})
    with pytest.raises(RuntimeError, match=r"1\.mean"):
        adam.restore(kept | {"1.mean": torch.zeros(1)})


@pytest.mark.parametrize(
    "made", [lambda p: Adam(p, 0.9, 0.99, 0.5), lambda p: Soap(p, 0.9, 0.99, 0.5, 3), lambda p: Descent(p, 0.5)]
)
def test_a_member_that_rests_is_as_if_no_time_had_passed(made):
    group = [nn.Parameter(torch.randn(3, 4, 2)), nn.Parameter(torch.randn(3, 2))]
    mover, rests = made(group), torch.tensor([False, True, False])
    for step in range(3):
        for p in group:
            p.grad = torch.randn_like(p)
        before = [t.clone() for t in mover.moving()]
        mover.step(0.1, rests if step == 2 else None)
    for now, then in zip(mover.moving(), before, strict=True):
        assert torch.equal(now[1], then[1])
    for p, then in zip(group, before, strict=False):
        assert not (p[[0, 2]] == then[[0, 2]]).any()


def test_no_gradients_move_nothing():
    group = parameters()
    adam = Adam(group, 0.9, 0.99, 0.5)
    adam.step(0.1)
    for a, b in zip(group, parameters(), strict=True):
        assert torch.equal(a, b)
    assert not adam.count.any()


def test_descent_is_that_of_torch():
    ours, theirs = parameters(), parameters()
    descent, optimiser = Descent(ours), torch.optim.SGD(theirs, 1.0)
    for step in range(5):
        for group in (ours, theirs):
            for p, g in zip(group, gradients(step), strict=True):
                p.grad = g
        descent.step(0.1)
        optimiser.param_groups[0]["lr"] = 0.1
        optimiser.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert not dict(descent.tensors())


def test_decay_pulls_to_zero():
    group = parameters()
    for p in group:
        p.grad = torch.zeros_like(p)
    Descent(group, decay=0.5).step(0.1)
    for a, b in zip(group, parameters(), strict=True):
        torch.testing.assert_close(a, 0.95 * b)


def turned(seed, n):
    torch.manual_seed(seed)
    return torch.linalg.qr(torch.randn(n, n, dtype=torch.float64)).Q


def test_soap_knows_no_axes():
    """In other coordinates it takes the same way; Adam does not."""
    left, right = turned(0, 4), turned(1, 3)
    apart = {}
    for made in (Adam, Soap):
        torch.manual_seed(2)
        here = torch.randn(4, 3, dtype=torch.float64)
        there = nn.Parameter(left @ here @ right)
        here = nn.Parameter(here)
        movers = [made([p], 0.9, 0.99, 0.1) for p in (here, there)]
        for step in range(120):
            torch.manual_seed(100 + step)
            here.grad = torch.randn(4, 3, dtype=torch.float64) * torch.tensor([[4.0], [3.0], [2.0], [1.0]])
            if not step:  # no two directions of the first one are alike, so it says which are which
                here.grad = torch.eye(4, 3, dtype=torch.float64) * torch.tensor([4.0, 3.0, 2.0])
            there.grad = left @ here.grad @ right
            for mover in movers:
                mover.step(0.01)
        apart[made] = float((left @ here @ right - there).detach().abs().max())
    assert apart[Soap] < 1e-6
    assert apart[Adam] > 1e-2


@pytest.mark.parametrize("rounds", [7, 230])  # before, and long after, it is told of every gradient
def test_soap_is_adam_in_the_directions_along_which_gradients_vary(rounds):
    """Where those are known and stay the same: what is remembered goes with the bases, however they are signed and ordered."""
    left, right = turned(0, 4), turned(1, 3)
    plain = nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
    turning = nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
    adam, soap = Adam([plain], 0.9, 0.99, 0.0), Soap([turning], 0.9, 0.99, 0.0)
    for step in range(rounds):
        torch.manual_seed(step)
        sizes = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
        if step > 60:
            sizes = sizes.flip(0)  # what varied most now varies least, so the order of the directions changes
        plain.grad = torch.zeros(4, 3, dtype=torch.float64)
        plain.grad[:3].diagonal().copy_(sizes * (1 + torch.rand(3, dtype=torch.float64)))
        turning.grad = left @ plain.grad @ right
        adam.step(0.01 if step else 0.0)  # the first round of Soap only looks
        soap.step(0.01)
    torch.testing.assert_close(left.mT @ turning.detach() @ right.mT, plain.detach(), rtol=1e-3, atol=1e-4)


def test_soap_lowers_what_is_badly_conditioned_along_other_directions_than_the_axes():
    left, right = (q * torch.logspace(-2, 0, len(q)) @ q.mT for q in (turned(0, 6).float(), turned(1, 4).float()))
    lost = {}
    for made in (Adam, Soap):
        torch.manual_seed(2)
        weight = nn.Parameter(torch.randn(6, 4))
        mover = made([weight], 0.9, 0.99, 0.0)
        for step in range(300):
            weight.grad = left @ weight.detach() @ right
            mover.step(0.1 * (1 - step / 300))
        w = weight.detach()
        lost[made] = float((left @ w * (w @ right)).sum())
    assert 0 <= lost[Soap] < 1e-3 * lost[Adam]


def test_soap_moves_each_member_by_itself_and_vectors_as_adam_does():
    torch.manual_seed(0)
    shapes = ((3, 4, 5), (3, 1, 6), (3, 2))
    together = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    alone = [[nn.Parameter(p.detach()[i].clone()) for p in together] for i in range(3)]
    vectors = [nn.Parameter(p.detach().clone()) for p in together[1:]]
    mover, adam = Soap(together, 0.9, 0.99, 0.1, members=3), Adam(vectors, 0.9, 0.99, 0.1)
    movers = [Soap(group, 0.9, 0.99, 0.1) for group in alone]
    for step in range(60):
        torch.manual_seed(step)
        found = [torch.randn(shape) for shape in shapes]
        for p, g in zip([*together, *vectors], found + found[1:], strict=True):
            p.grad = g
        for i, group in enumerate(alone):
            for p, g in zip(group, found, strict=True):
                p.grad = g[i]
        for one in (mover, adam, *movers):
            one.step(0.01)
    for p, *each in zip(together, *alone, strict=True):
        torch.testing.assert_close(p, torch.stack(each), rtol=1e-3, atol=1e-4)
    for p, q in zip(together[1:], vectors, strict=True):
        torch.testing.assert_close(p, q)


def test_a_side_too_long_is_not_turned():
    mover = Soap([nn.Parameter(torch.randn(9, 3))], 0.9, 0.99, 0.0, longest=8)
    shapes = {name: tuple(tensor.shape) for name, tensor in mover.tensors()}
    assert shapes["0.basis.left"] == (1, 0, 0)
    assert shapes["0.basis.right"] == (1, 3, 3)
    mover.parameters[0].grad = torch.randn(9, 3)
    before = mover.parameters[0].detach().clone()
    mover.step(0.1)
    assert torch.equal(mover.parameters[0], before)  # the first round only looks
    mover.step(0.1)
    assert not (mover.parameters[0] == before).any()


@pytest.mark.parametrize("broken", [0, 1, 3])
def test_a_gradient_that_is_no_number_shows_in_the_weights(broken):
    weight = nn.Parameter(torch.randn(4, 3))
    mover = Soap([weight], 0.9, 0.99, 0.0)
    for step in range(6):
        weight.grad = torch.full((4, 3), torch.nan) if step == broken else torch.randn(4, 3)
        mover.step(0.1)
    assert weight.isnan().all()

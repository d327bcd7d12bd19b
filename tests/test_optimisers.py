"""Against torch's own."""

import pytest
import torch
from torch import nn

from reverie.optimisers import Adam, Descent


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


def test_a_restored_state_goes_on_as_if_nothing_had_been():
    runs = []
    for stop in (None, 4):
        group = parameters()
        adam = Adam(group, 0.9, 0.99, 0.1)
        for step in range(8):
            if step == stop:
                kept = {k: v.clone() for k, v in adam.tensors()}
                adam = Adam(group, 0.9, 0.99, 0.1)
                adam.restore(kept)
            for p, g in zip(group, gradients(step), strict=True):
                p.grad = g
            adam.step(0.01)
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


@pytest.mark.parametrize("made", [lambda p: Adam(p, 0.9, 0.99, 0.5), lambda p: Descent(p, 0.5)])
def test_a_member_that_rests_is_as_if_no_time_had_passed(made):
    group = [nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(3))]
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

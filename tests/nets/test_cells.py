"""Cells: the paper's equation, the same as a shallow PLRNN, and slopes by autograd."""

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.nets.cells import CELLS, PLRNNCell, cell, manifold_attraction
from reverie.nets.recurrence import Forcing

S, B, T, M = 2, 4, 30, 5
HIDDEN = {"almost_linear": 2, "dendritic": 3}
LINEAR = [name for name in CELLS if name != "gru"]


def made(name, scale=0.3):
    """A cell far from where it begins, in float64."""
    torch.manual_seed(3)
    found = cell(name, S, M, HIDDEN.get(name, 7)).double()
    for p in found.parameters():
        p.data.add_(scale * torch.randn_like(p))
    return found


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("name", LINEAR)
def test_as_a_shallow_plrnn_it_has_the_same_orbits(name):
    cell = made(name, 0.1)
    z, path = draw(S, B, M), []
    for weights_step in (cell.step, cell.as_shallow().step):
        at = z
        path.append([at := weights_step(at) for _ in range(T)])
    torch.testing.assert_close(torch.stack(path[0]), torch.stack(path[1]), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(cell.orbit(z, T), torch.stack(path[0]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CELLS)
def test_the_jacobian_is_that_of_autograd(name):
    cell, z = made(name), draw(S, B, M)
    found = cell.jacobian(z)
    assert found.shape == (S, B, M, M)
    every = torch.autograd.functional.jacobian(cell.step, z)  # (S, B, M, S, B, M)
    for s in range(S):
        for b in range(B):
            torch.testing.assert_close(found[s, b], every[s, b, :, s, b])
    every[torch.arange(S)[:, None], torch.arange(B), :, torch.arange(S)[:, None], torch.arange(B)] = 0
    assert every.abs().max() == 0  # no member or example touches another


@pytest.mark.parametrize("name", CELLS)
def test_orbits_have_the_gradients_of_their_steps(name):
    cell, start = made(name, 0.1), draw(S, B, M).requires_grad_()
    forcing = Forcing(draw(T, 1, B, 3), torch.full((T, 1, 1, 1), 0.2, dtype=torch.float64))
    drive = draw(T, S, B, M)
    z, path = start, []
    for t in range(T):
        z = cell.step(forcing.pulled(z, t)) + drive[t]
        path.append(z)
    found = cell.orbit(start, T, forcing, drive)
    torch.testing.assert_close(found, torch.stack(path))
    how_much = draw(T, S, B, M)
    over = [start, *cell.parameters()]
    ours = torch.autograd.grad((found * how_much).sum(), over)
    theirs = torch.autograd.grad((torch.stack(path) * how_much).sum(), over)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max()


@pytest.mark.parametrize("name", LINEAR)
def test_a_region_has_one_jacobian(name):
    cell, z = made(name), draw(S, 300, M)
    regions, slopes = cell.regions(z), cell.jacobian(z)
    first = {}
    for b in range(300):
        key = tuple(regions[0, b].tolist())
        torch.testing.assert_close(slopes[0, b], slopes[0, first.setdefault(key, b)])
    assert 1 < len(first) < 300


@pytest.mark.parametrize("name", CELLS)
def test_a_new_cell_forgets_slowly_and_runs_nowhere(name):
    """What is learned begins near an identity that leaks, so gradients reach far back."""
    torch.manual_seed(0)
    cell = CELLS[name](20, 3, 2 if name == "almost_linear" else 50)
    states = cell.orbit(torch.randn(20, 8, 3), 500)
    assert states.isfinite().all()
    assert states.abs().max() < 50


def test_a_clipped_cell_is_bounded_whatever_its_weights():
    cell = made("clipped", 3.0)
    cell.a.data.clamp_(-0.9, 0.9)
    assert cell.orbit(1e3 * draw(S, B, M), 2000)[-1].abs().max() < 1e4


def test_the_published_fixed_point():
    """a = (-0.0222311, 0.96461297), W = [[0, -0.64375], [0.52505308, 0]], h = (0.37298253, -0.97931491)."""
    cell = PLRNNCell(1, 2, 0).double()
    cell.a.data = torch.tensor([[-0.0222311, 0.96461297]], dtype=torch.float64)
    cell.W.data = torch.tensor(
        [[[9.0, -0.64375], [0.52505308, 9.0]]], dtype=torch.float64
    )  # the diagonal counts for nothing
    cell.h.data = torch.tensor([[0.37298253, -0.97931491]], dtype=torch.float64)
    z = torch.tensor([[[0.3649, -22.2617]]], dtype=torch.float64)
    torch.testing.assert_close(cell.step(z), z, atol=5e-3, rtol=0)
    end = cell.orbit(z, 2000)[-1]
    torch.testing.assert_close(cell.step(end), end)
    torch.testing.assert_close(end, z, atol=6e-3, rtol=0)


def test_a_gru_is_not_taken_apart():
    with pytest.raises(BadInput, match="not piecewise linear"):
        made("gru").regions(draw(S, B, M))


def test_an_almost_linear_cell_rectifies_no_more_than_it_has():
    with pytest.raises(BadInput, match="hidden is too large"):
        cell("almost_linear", 1, 3, 4)


def test_manifold_attraction_is_zero_for_perfect_memory_alone():
    weights = made("shallow").as_shallow()
    assert (manifold_attraction(weights, 2) > 0).all()
    assert torch.equal(manifold_attraction(weights, 0), torch.zeros(S, dtype=torch.float64))
    weights.A[:, 3:] = torch.eye(M, dtype=torch.float64)[3:]
    weights.W1.data[:, 3:] = 0
    weights.h1.data[:, 3:] = 0
    assert torch.equal(manifold_attraction(weights, 2), torch.zeros(S, dtype=torch.float64))
    z = draw(S, B, M)
    torch.testing.assert_close(weights.step(z)[..., 3:], z[..., 3:])

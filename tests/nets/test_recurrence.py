"""The two sweeps against autograd through every step, in float64."""

import pytest
import torch

from reverie.core.shallow import Shallow
from reverie.nets import recurrence
from reverie.nets.recurrence import Forcing, forward_sweep, orbit

S, B, T, M, L, N = 2, 3, 17, 4, 7, 3


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def some_weights(scale=0.4):
    return Shallow(
        0.7 * torch.eye(M, dtype=torch.float64) + 0.1 * draw(S, M, M),
        scale * draw(S, M, L), scale * draw(S, L, M), draw(S, M), draw(S, L),
    )  # fmt: skip


def plainly(weights, start, steps, forcing=None, drive=None):
    """The equations, one step after the other."""
    states, z = [], start
    for t in range(steps):
        if forcing is not None:
            n = forcing.target.shape[-1] if forcing.readout is None else forcing.readout.shape[1]
            eye = torch.eye(n, dtype=z.dtype).expand(S, n, n)
            readout, gain = (eye, eye) if forcing.readout is None else (forcing.readout, forcing.gain)
            error = forcing.weight[t] * (forcing.target[t] - torch.einsum("sbr,srn->sbn", z[..., :n], readout))
            z = torch.cat([z[..., :n] + torch.einsum("sbn,snr->sbr", error, gain), z[..., n:]], -1)
        hidden = torch.relu(torch.einsum("slm,sbm->sbl", weights.W2, z) + weights.h2[:, None])
        z = torch.einsum("smn,sbn->sbm", weights.A, z) + torch.einsum("sml,sbl->sbm", weights.W1, hidden)
        z = z + weights.h1[:, None] + (0 if drive is None else drive[t])
        states.append(z)
    return torch.stack(states)


def forcings():
    holes = (torch.rand(T, S, B, N) < 0.7).double()
    seen = draw(T, S, B, N)
    sparse = torch.zeros(T, 1, 1, 1, dtype=torch.float64)
    sparse[::5] = 1
    return {
        "none": None,
        "one share": Forcing(seen, torch.full((T, 1, 1, 1), 0.3, dtype=torch.float64)),
        "all units": Forcing(draw(T, S, B, M), torch.rand(T, S, 1, 1, dtype=torch.float64)),
        "holes": Forcing(seen[:, :1], 0.4 * holes),
        "sparse": Forcing(seen, sparse),
        "a readout": Forcing(draw(T, 1, B, 6), torch.rand(T, S, B, 6, dtype=torch.float64), draw(S, M, 6), 0.1 * draw(S, 6, M)),
        "a readout of some": Forcing(seen, 0.5 * holes, draw(S, N, N), 0.2 * draw(S, N, N)),
    }  # fmt: skip


@pytest.fixture(params=["torch", "compiled"])
def way(request, monkeypatch):
    """By products of matrices, and by compiled loops where numba is installed."""
    if request.param == "torch":
        monkeypatch.setattr(recurrence, "tiles", None)
    elif recurrence.tiles is None:
        pytest.skip("numba is not installed")
    return request.param


@pytest.mark.parametrize("chunk", [1, 100, 2**20])
@pytest.mark.parametrize("driven", [False, True])
@pytest.mark.parametrize("name", forcings())
def test_the_sweeps_are_autograd(name, driven, chunk, way, monkeypatch):
    if way == "compiled" and chunk > 1:
        pytest.skip("knows no chunks")
    monkeypatch.setattr(recurrence, "CHUNK", chunk)
    forcing, weights, start = forcings()[name], some_weights(), draw(S, B, M)
    drive = draw(T, S, B, M) if driven else None
    moving = [*weights, start, *([drive] if driven else []), *([forcing.target] if forcing else [])]
    for tensor in moving:
        tensor.requires_grad_()
    how_much = draw(T, S, B, M)
    found = orbit(weights, start, T, forcing, drive)
    wanted = plainly(weights, start, T, forcing, drive)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    ours = torch.autograd.grad((found * how_much).sum() + found.square().sum(), moving)
    theirs = torch.autograd.grad((wanted * how_much).sum() + wanted.square().sum(), moving)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-9 * b.abs().max()
        assert b.abs().max() > 0


@pytest.mark.parametrize(
    ("size", "units", "batch"),
    [(1, 1, 1), (4, 8, 17), (5, 233, 21), (6, 240, 4), (3, 500, 16), (20, 0, 5), (239, 3, 4), (240, 3, 4), (300, 9, 2)],
)
def test_sizes_of_blocks_and_groups_change_nothing(size, units, batch, way):
    weights = Shallow(
        0.6 * torch.eye(size, dtype=torch.float64).repeat(S, 1, 1),
        draw(S, size, units) / (units + 1), draw(S, units, size) / size, draw(S, size), draw(S, units),
    )  # fmt: skip
    start, steps = draw(S, batch, size), 5
    forcing = Forcing(draw(steps, S, batch, size), torch.full((steps, 1, 1, 1), 0.3, dtype=torch.float64))
    moving = [part.requires_grad_() for part in (*weights, start)]
    found, wanted = (run(weights, start, steps, forcing) for run in (orbit, plainly))
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    ours, theirs = (torch.autograd.grad(run.square().sum(), moving) for run in (found, wanted))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_in_float32_gradients_are_right_to_five_digits(way):
    weights, start, forcing = some_weights(), draw(S, B, M), forcings()["one share"]
    wanted = torch.autograd.grad(
        plainly(Shallow(*(w.requires_grad_() for w in weights)), start, T, forcing).square().mean(), weights
    )
    single = Shallow(*(w.detach().float().requires_grad_() for w in weights))
    found = orbit(single, start.float(), T, Forcing(forcing.target.float(), forcing.weight.float()))
    for a, b in zip(torch.autograd.grad(found.square().mean(), single), wanted, strict=True):
        assert (a - b).abs().max() <= 1e-5 * b.abs().max()


def test_forcing_at_its_limits(way):
    """alpha = 0 is the free run; alpha = 1 predicts every step from what was seen, and no error is handed back in time."""
    weights, start, target = some_weights(), draw(S, B, M), draw(T, S, B, M)
    free = orbit(weights, start, T)
    nothing = orbit(weights, start, T, Forcing(target, torch.zeros(T, 1, 1, 1, dtype=torch.float64)))
    torch.testing.assert_close(nothing, free, rtol=0, atol=0)
    start.requires_grad_()
    whole = orbit(weights, start, T, Forcing(target, torch.ones(T, 1, 1, 1, dtype=torch.float64)))
    for t in range(T):
        torch.testing.assert_close(whole[t], weights.step(target[t]))
    assert torch.autograd.grad(whole.sum(), start)[0].abs().max() == 0


def test_members_do_not_touch_each_other(way):
    weights, start = some_weights(), draw(S, B, M)
    both = orbit(weights, start, T)
    for i in range(S):
        alone = Shallow(*(w[i : i + 1] for w in weights))
        torch.testing.assert_close(orbit(alone, start[i : i + 1], T)[:, 0], both[:, i])


def test_one_that_runs_away_leaves_the_others_as_they_were(way):
    weights, start = some_weights(), draw(S, B, M)
    weights.A[0] *= 1e60
    for w in weights:
        w.requires_grad_()
    states = orbit(weights, start, T)
    assert not states[:, 0].isfinite().all()
    for gradient in torch.autograd.grad(states[:, 1].square().sum(), weights):
        assert gradient[1].isfinite().all()
        assert gradient[1].abs().max() > 0


def test_step_jacobian_and_regions_agree(way):
    weights, z = some_weights(), draw(S, B, M)
    swept = forward_sweep(weights, z, 1)
    torch.testing.assert_close(weights.step(z), swept.states[0])
    for s in range(S):
        for b in range(B):
            one = Shallow(*(w[s : s + 1] for w in weights))
            slope = torch.autograd.functional.jacobian(lambda x, one=one: one.step(x[None, None])[0, 0], z[s, b])
            torch.testing.assert_close(weights.jacobian(z)[s, b], slope)
    on = weights.regions(z).double()
    inner = (torch.einsum("slm,sbm->sbl", weights.W2, z) + weights.h2[:, None]) * on
    assert (inner >= 0).all()
    # Within a region the map is linear.
    near = z + 1e-9 * draw(S, B, M)
    moved = torch.einsum("sbmn,sbn->sbm", weights.jacobian(z), near - z)
    torch.testing.assert_close(weights.step(near) - weights.step(z), moved, atol=1e-12, rtol=1e-4)


def test_threads_share_the_members_and_change_nothing(monkeypatch):
    if recurrence.tiles is None:
        pytest.skip("numba is not installed")
    weights, start = some_weights(), draw(S, B, M)
    parts = [part.requires_grad_() for part in weights]
    monkeypatch.setattr(recurrence.tiles, "WORTH", 0)
    found = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        states = orbit(weights, start, T)
        found.append((states, *torch.autograd.grad(states.square().sum(), parts)))
    for one in found[1:]:
        for a, b in zip(one, found[0], strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)

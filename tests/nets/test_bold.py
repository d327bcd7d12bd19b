"""The haemodynamic response, and what it blurred guessed again: against scipy and against Gaussian algebra."""

import numpy as np
import pytest
import torch
from scipy.stats import gamma

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.nets.bold import BoldObservation, blur, bold, haemodynamic_response

KERNEL = torch.tensor([0.1, 0.5, 0.3, 0.1], dtype=torch.float64)


def made(members=2, latent=3, channels=2, kernel=KERNEL, nuisance=0):
    seen = BoldObservation(members, latent, channels, kernel, nuisance).double()
    for p in seen.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return seen


@pytest.mark.parametrize("tr", [0.1, 0.72, 1.0, 1.89, 3.0])
def test_the_response_is_two_gammas(tr):
    h = haemodynamic_response(tr).numpy()
    t = np.arange(len(h)) * tr
    known = gamma.pdf(t, 6) - gamma.pdf(t, 16) / 6
    np.testing.assert_allclose(h, known / known.sum(), atol=1e-12)
    assert h[0] == 0
    assert h.sum() == pytest.approx(1)
    assert t[-1] <= 32 < t[-1] + tr + 1e-9


def test_it_peaks_after_five_seconds_and_falls_below_where_it_began():
    h = haemodynamic_response(0.01)
    assert 4.9 < 0.01 * int(h.argmax()) < 5.1
    assert 14 < 0.01 * int(h.argmin()) < 17
    assert -0.12 < float(h.min() / h.max()) < -0.08
    assert bool((h[1000:1200] < 0).any()) == (h[1200] < 0)


def test_states_are_blurred_step_by_step():
    path = torch.randn(9, 2, 3, 2, dtype=torch.float64)
    found = blur(KERNEL, path)
    for t in range(6):
        torch.testing.assert_close(found[t], sum(KERNEL[k] * path[t + 3 - k] for k in range(4)))
    seen = made(latent=2)
    torch.testing.assert_close(seen.felt(path[3:], path[:3]), found)
    torch.testing.assert_close(seen.felt(path[3:], path[:3][1:2]), seen.felt(path[3:], path[1:2].expand(3, -1, -1, -1)))
    still = path[:1].expand(7, -1, -1, -1)
    torch.testing.assert_close(seen.felt(still), still)  # the response has sum 1


def algebra(memory, noise, steps):
    """The covariance of sources (E, E), of them with x (E, T), and of x (T, T), entry by entry."""
    taps = len(KERNEL)
    time = torch.arange(steps + taps - 1, dtype=torch.float64)
    own = memory ** (time[:, None] - time).abs()
    mix = torch.zeros(steps, len(time), dtype=torch.float64)
    for t in range(steps):
        for k in range(taps):
            mix[t, t + taps - 1 - k] = KERNEL[k]
    blurred = mix @ own @ mix.T
    return own @ mix.T, blurred + noise * blurred.diagonal().mean() * torch.eye(steps)


def test_sources_are_the_conditional_mean_of_all_and_of_what_came_so_far():
    seen = made()
    seen.memory.fill_(0.7)
    seen.noise.fill_(0.3)
    memory, noise = float(seen.memory), float(seen.noise)
    guess, lower = seen.filter(7)
    cross, total = algebra(memory, noise, 7)
    torch.testing.assert_close(lower @ lower.T, total)
    x = torch.randn(7, dtype=torch.float64)
    white = torch.linalg.inv(lower) @ x
    for upto in (1, 3, 7):
        wanted = cross[:, :upto] @ torch.linalg.solve(total[:upto, :upto], x[:upto])
        torch.testing.assert_close(guess[:, :upto] @ white[:upto], wanted)
    many = torch.randn(7, 1, 4, 2, dtype=torch.float64)
    y, known, before = seen.sources(many, None)
    assert known is None
    wanted = torch.einsum("et,tsbn->esbn", cross @ torch.linalg.inv(total), many - seen.bias)
    torch.testing.assert_close(y, wanted[3:] + seen.bias)
    torch.testing.assert_close(before, seen.units(wanted[:3]))


def test_what_was_not_seen_says_nothing_of_sources():
    seen = made()
    x = torch.randn(7, 1, 2, 2, dtype=torch.float64)
    observed = torch.rand(7, 1, 2, 2) < 0.6
    y, _, _ = seen.sources(torch.where(observed, x, 0.0), observed)
    cross, total = algebra(float(seen.memory), float(seen.noise), 7)
    bias = seen.bias.detach()
    for b in range(2):
        for n in range(2):
            on = observed[:, 0, b, n]
            centred = (x[:, 0, b, n] - bias[:, 0, n : n + 1])[:, on]  # (S, seen)
            wanted = centred @ torch.linalg.solve(total[on][:, on], cross[:, on].T)
            torch.testing.assert_close(y[:, :, b, n] - bias[:, 0, n], wanted.T[3:], atol=1e-4, rtol=1e-4)
    assert torch.equal(y, seen.sources(torch.where(observed, x, 0.0), observed)[0])


def test_sources_of_made_data_come_near_the_truth():
    """Sources that remember 0.8 of themselves: the filter finds that, and tells most of them."""
    generator = torch.Generator().manual_seed(0)
    kernel = haemodynamic_response(1.0)
    y = torch.zeros(40, 130, 2, dtype=torch.float64)
    for t in range(1, 130):
        y[:, t] = 0.8 * y[:, t - 1] + 0.6 * torch.randn(40, 2, generator=generator, dtype=torch.float64)
    x = y.unfold(1, 33, 1) @ kernel.flip(0)
    x = x + 0.1 * x.std() * torch.randn(x.shape, generator=generator, dtype=torch.float64)
    seen = BoldObservation(1, 2, 2, kernel).double()
    seen.prepare(x, None)
    assert 0.7 < float(seen.memory) < 0.91
    assert float(seen.noise) < 0.04
    found = seen.sources(x.transpose(0, 1).unsqueeze(1), None)[0][:, 0].transpose(0, 1)
    true = y[:, 32:]
    inner = slice(10, -10)
    left = ((found - true)[:, inner].square().mean() / true[:, inner].var()).item()
    as_seen = ((x - true)[:, inner].square().mean() / true[:, inner].var()).item()
    assert left < 0.5 * as_seen
    # States begin with about unit variance.
    assert seen.units(found - seen.bias[0]).var().item() == pytest.approx(1, abs=0.1)


def test_nuisance_begins_as_least_squares():
    r = torch.randn(20, 30, 2, dtype=torch.float64)
    J = torch.tensor([[0.5, -1.0, 2.0], [0.0, 3.0, -0.3]], dtype=torch.float64)
    seen = made(channels=3, nuisance=2)
    x = r @ J + 7 + 0.1 * torch.randn(20, 30, 3, dtype=torch.float64)
    holes = torch.rand(20, 30, 3) < 0.9
    holes[0] = True
    for observed in (None, holes):
        seen.prepare(x if observed is None else torch.where(observed, x, 0.0), observed, r)
        torch.testing.assert_close(seen.J.data, J.expand(2, -1, -1), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (Space((9, 3), "real"), "--data.tr"),
        (Space((9, 3), "real", tr=720.0), "720 s between two volumes"),
        (Space((9, 3), "count", tr=1.0), "does not fit count"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told(space, words):
    with pytest.raises(BadInput, match=words):
        bold(space, 1, 3, 0)

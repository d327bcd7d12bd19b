"""What is seen of a state, and how it pulls the state back."""

import pytest
import torch

from reverie.core.distributions import Gaussian
from reverie.core.errors import BadInput
from reverie.nets.observations import AffineObservation, observation

S, B, T = 2, 5, 7


def made(name, latent, channels, kind="real"):
    found = observation(name, kind, S, latent, channels).double()
    for p in found.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return found


@pytest.mark.parametrize(("latent", "channels"), [(3, 3), (2, 5), (5, 3)])
@pytest.mark.parametrize("name", ["identity", "gaussian"])
def test_pulled_all_the_way_a_state_is_what_was_seen(name, latent, channels):
    if name == "identity" and latent < channels:
        pytest.skip("not a state")
    seen = made(name, latent, channels)
    z = torch.randn(T, S, B, latent, dtype=torch.float64)
    x = seen(z).mean
    assert x.shape == (T, S, B, channels)
    for alpha in (0.0, 0.3, 1.0):
        pull = seen.forcing(x, torch.full((T, 1, 1, 1), alpha, dtype=torch.float64))
        elsewhere = torch.randn(S, B, latent, dtype=torch.float64)
        moved = pull.pulled(elsewhere, 2)
        n = seen.reach
        torch.testing.assert_close(moved[..., :n], torch.lerp(elsewhere[..., :n], z[2, ..., :n], alpha))
        assert torch.equal(moved[..., n:], elsewhere[..., n:])
    start = seen.start(x[0], None)
    torch.testing.assert_close(start[..., :n], z[0, ..., :n])


@pytest.mark.parametrize("name", ["identity", "gaussian"])
def test_what_was_not_seen_pulls_nothing(name):
    seen = made(name, 3, 3)
    x = torch.randn(1, S, B, 3, dtype=torch.float64)
    observed = torch.tensor([True, False, True])
    weight = observed.double().expand(1, 1, B, 3)
    z = torch.randn(S, B, 3, dtype=torch.float64)
    other = torch.where(observed, x, 7.0)
    assert torch.equal(seen.forcing(x, weight).pulled(z, 0), seen.forcing(other, weight).pulled(z, 0))


def test_a_readout_begins_as_principal_axes():
    seen = observation("gaussian", "real", S, 2, 4)
    true = torch.randn(2, 4)
    x = torch.randn(50, 20, 2) @ true + torch.tensor([1.0, 2.0, 3.0, 4.0])
    seen.prepare(x, None)
    pull = seen.forcing(x[:1].unsqueeze(1), torch.ones(1, 1, 1, 1))
    z = pull.pulled(torch.zeros(S, 20, 2), 0)
    torch.testing.assert_close(seen(z).mean, x[0].expand(S, -1, -1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.bias[0, 0], x.mean((0, 1)))


@pytest.mark.parametrize("name", ["poisson", "negative_binomial"])
def test_counts_have_the_mean_they_are_said_to(name):
    seen = made(name, 2, 3, "count")
    z = torch.randn(S, B, 2, dtype=torch.float64)
    log_mean = torch.einsum("sbr,srn->sbn", z, seen.readout) + seen.bias
    torch.testing.assert_close(seen(z).mean, log_mean.exp())
    draws = torch.distributions.NegativeBinomial(3.0, torch.tensor(0.4)).sample((400, 50, 3)).double()
    seen.prepare(draws, None)
    first = seen.first(torch.zeros(1, 3, dtype=torch.float64)).sample(20_000)
    torch.testing.assert_close(first.mean(0), draws.mean((0, 1))[None], rtol=0.05, atol=0)
    torch.testing.assert_close(first.var(0), draws.var((0, 1))[None], rtol=0.1, atol=0)


def test_only_what_fits():
    affine = observation("auto", "real", 1, 2, 3)
    assert isinstance(affine, AffineObservation)
    assert isinstance(affine(torch.zeros(1, 1, 2)), Gaussian)
    with pytest.raises(BadInput, match="use auto, poisson or negative_binomial"):
        observation("identity", "count", 1, 3, 3)

"""How entries are spoiled, and what they were: against sums over every value, and histograms of draws."""

import math

import pytest
import torch
from scipy.stats import chi2

from reverie.core import corruption as corruptions
from reverie.core.bytes import Binned, LogisticMixture
from reverie.core.corruption import Corruption, GaussianNoise, PoissonNoise, SaltAndPepper
from reverie.core.distributions import Bernoulli, Gaussian, Lattice
from reverie.core.errors import BadInput

BYTES = torch.arange(256) / 127.5 - 1
BITS = torch.tensor([0.0, 1.0])


def fits(level: torch.Tensor, p: torch.Tensor) -> bool:
    """Whether draws (n,) of indices follow probabilities p (levels,): Pearson's test at one in 100,000, rare cells together."""
    seen, expected = torch.bincount(level, minlength=len(p)).double(), p.double() / p.double().sum() * len(level)
    assert (seen[expected == 0] == 0).all()
    rare = expected < 5
    seen = torch.cat([seen[~rare], seen[rare].sum().view(1)])
    expected = torch.cat([expected[~rare], expected[rare].sum().view(1)])
    kept = expected > 1
    statistic = ((seen - expected).square() / expected)[kept].sum().item()
    return statistic < chi2.ppf(1 - 1e-5, max(1, int(kept.sum()) - 1))


def logistics(m: int, *event: int, rows: int = 1, dtype=torch.float32) -> LogisticMixture:
    loc, log_scale, logits = (torch.randn(rows, m, *event, dtype=dtype) for _ in range(3))
    return LogisticMixture(loc, log_scale - 2, logits, len(event))


def outcomes(corruption: Corruption, x: float) -> torch.Tensor:
    """Every y that x can become, but for one in a billion."""
    if isinstance(corruption, SaltAndPepper):
        return torch.tensor(sorted({corruption.low, corruption.high, x}))
    photons = torch.arange(200)
    return corruption.low + (corruption.high - corruption.low) * photons / corruption.peak


DISCRETE = [PoissonNoise(7.0), PoissonNoise(0.4, 0.0, 1.0), SaltAndPepper(0.3), SaltAndPepper(0.9, 0.0, 1.0)]


@pytest.mark.parametrize("corruption", DISCRETE)
@pytest.mark.parametrize("place", [0.0, 0.37, 1.0])
def test_what_an_entry_becomes_follows_its_probabilities(corruption, place):
    x = corruption.low + (corruption.high - corruption.low) * place
    x = float(torch.tensor(x))
    y = outcomes(corruption, x)
    p = corruption.log_prob(y, torch.tensor(x)).exp()
    assert p.sum() == pytest.approx(1, abs=1e-5)
    spoiled = corruption.spoil(torch.full((20_000,), x))
    level = (spoiled.view(-1, 1) - y).abs().argmin(1)
    assert (spoiled - y[level]).abs().max() < 1e-5
    assert fits(level, p)


def test_gaussian_noise_integrates_to_one_and_has_its_deviation():
    grid = torch.linspace(-5, 5, 10_001, dtype=torch.float64)
    density = GaussianNoise(0.3).log_prob(grid, torch.tensor(0.7, dtype=torch.float64)).exp()
    assert torch.trapezoid(density, grid).item() == pytest.approx(1, abs=1e-9)
    assert torch.trapezoid(density * (grid - 0.7).square(), grid).item() == pytest.approx(0.09, abs=1e-6)
    error = GaussianNoise(0.3).spoil(torch.full((40_000,), 0.7)) - 0.7
    assert error.mean().abs() < 5 * 0.3 / 200
    assert error.square().mean() == pytest.approx(0.09, rel=5 * math.sqrt(2 / 40_000))


def test_a_photon_count_has_its_intensity_as_mean_and_variance():
    y = PoissonNoise(50.0).spoil(torch.full((40_000,), 0.2))  # intensity 0.6: 30 photons
    assert y.mean() == pytest.approx(0.2, abs=5 * math.sqrt(30) * 2 / 50 / 200)
    assert y.var() == pytest.approx(30 * (2 / 50) ** 2, rel=0.05)


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fast_table_is_the_slow_one_far_in_the_tails_too(m, dtype):
    shape = (1, m, 5, 6)
    loc = torch.linspace(-4, 4, 5, dtype=dtype).view(1, 1, 5, 1).expand(shape) + 0.3 * torch.randn(shape, dtype=dtype)
    log_scale = torch.linspace(-7, 3, 6, dtype=dtype).expand(shape)
    p = LogisticMixture(loc, log_scale, torch.randn(shape, dtype=dtype), 2)
    fast, values = p.table(slice(None))
    slow = torch.stack([p.terms(v.expand(1, 5, 6)) for v in values], -1)
    assert slow.min() < -4000
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)


CASES = {
    "bits": (lambda: Bernoulli(torch.tensor([[-1.0]])), BITS),
    "table": (lambda: Lattice(torch.randn(1, 1, 256), BYTES), BYTES),
    "logistic": (lambda: logistics(1, 1), BYTES),
    "logistics": (lambda: logistics(4, 1), BYTES),
    # Far from the edges, where its masses sum to one.
    "binned": (lambda: Binned(Gaussian(torch.tensor([[0.1]]), torch.tensor([[-2.0]]))), BYTES),
}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("noise", ["gaussian", "poisson", "salt"])
@pytest.mark.parametrize("place", [0, 0.6, 1.0])
def test_draws_of_what_was_there_follow_bayes(kind, noise, place):
    make, values = CASES[kind]
    p, low = make(), float(values[0])
    corruption = {
        "gaussian": GaussianNoise(0.35),
        "poisson": PoissonNoise(5.0, low, 1.0),
        "salt": SaltAndPepper(0.6, low, 1.0),
    }[noise]
    y = low + (1 - low) * place
    y = y if noise != "salt" else float(values[(values - y).abs().argmin()])
    y = torch.tensor([[y]])
    log_p = torch.stack([p.terms(v.view(1, 1)) for v in values]).flatten()
    joint = log_p + torch.stack([corruption.log_prob(y, v) for v in values]).flatten()
    assert corruption.evidence(p, y).item() == pytest.approx(torch.logsumexp(joint, 0).item(), abs=1e-4)
    x = corruption.denoise(p, y.expand(20_000, 1)).flatten()
    level = (x.view(-1, 1) - values).abs().argmin(1)
    assert (x - values[level]).abs().max() < 1e-6
    assert fits(level, torch.softmax(joint, 0))


def test_many_rows_in_small_parts_are_the_rows_one_by_one(monkeypatch):
    p = logistics(3, 2, 3, rows=20)
    y = torch.rand(20, 2, 3) * 2 - 1
    poisson, tight = PoissonNoise(30.0), GaussianNoise(0.001)
    whole = poisson.evidence(p, y)
    monkeypatch.setattr(corruptions, "AT_ONCE", 256 * 6 * 7)
    torch.testing.assert_close(poisson.evidence(p, y), whole)
    assert (tight.denoise(p, y) - y).abs().max() < 0.01  # every entry keeps its place
    one = [
        Corruption.evidence(
            poisson, LogisticMixture(*(t[i : i + 1] for t in (p.loc, p.log_scale, p.logits)), 2), y[i : i + 1]
        )
        for i in range(20)
    ]
    torch.testing.assert_close(torch.cat(one), whole)


def test_real_entries_in_closed_form():
    """Gaussian noise has Gaussian evidence; an extreme value says nothing, for no density puts mass on it."""
    p = Gaussian(torch.tensor([[0.3, 0.3, 0.3]]), torch.tensor([[-0.7, -0.7, -0.7]]))
    y = torch.tensor([[0.1, 1.0, -1.0]])
    wide = torch.distributions.Normal(0.3, math.sqrt(math.exp(-1.4) + 0.25))
    torch.testing.assert_close(GaussianNoise(0.5).evidence(p, y), wide.log_prob(y))
    salt = SaltAndPepper(0.2)
    expected = torch.tensor([[math.log(0.8) + p.terms(y)[0, 0], math.log(0.1), math.log(0.1)]])
    torch.testing.assert_close(salt.evidence(p, y), expected)
    x = salt.denoise(p, y.expand(20_000, 3))
    assert (x[:, 0] == y[0, 0]).all()
    assert (x[:, 1:].mean(0) - 0.3).abs().max() < 5 * math.exp(-0.7) / math.sqrt(20_000)
    assert (x[:, 1:].std(0) / math.exp(-0.7) - 1).abs().max() < 0.03
    with pytest.raises(BadInput, match="Gaussian entry"):
        PoissonNoise(9.0).denoise(p, y)


@pytest.mark.parametrize("noise", [0.0, 0.2, GaussianNoise(0.2), SaltAndPepper(0.2), PoissonNoise(20.0)])
def test_filling_keeps_to_what_was_seen(noise):
    p = logistics(2, 5, rows=4000)
    p = LogisticMixture(0 * p.loc, 0 * p.log_scale - 3, p.logits)
    y = torch.tensor([1.0, 0.2, math.nan, -1.0, math.nan]).expand(4000, 5).clone()
    y[:, 1] = BYTES[153]
    observed = ~y.isnan()
    x = p.fill(y, observed, noise)
    assert x.isfinite().all()
    hidden = p.sample()[:, 2]
    assert abs(x[:, 2].mean() - hidden.mean()) < 6 * hidden.std() / math.sqrt(2000)
    assert abs(x[:, 4].std() / hidden.std() - 1) < 0.1
    if noise == 0:
        assert torch.equal(x[observed], y[observed])
    elif isinstance(noise, SaltAndPepper):
        assert torch.equal(x[:, 1], y[:, 1])
        assert (x[:, 0].mean()).abs() < 0.05  # white is all but impossible under p
    else:
        assert -0.02 < x[:, 1].mean() < 0.2


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianNoise(0.0),
        lambda: PoissonNoise(-1.0),
        lambda: PoissonNoise(1.0, 1.0, 1.0),
        lambda: SaltAndPepper(1.5),
        lambda: SaltAndPepper(0.5, 1.0, 0.0),
    ],
)
def test_impossible_corruptions_are_refused(make):
    with pytest.raises(BadInput):
        make()


def test_what_can_come_from_no_value_is_refused():
    class Whole(SaltAndPepper):
        denoise = Corruption.denoise

    with pytest.raises(BadInput, match="impossible under"):
        Whole(0.5).denoise(logistics(1, 1), torch.tensor([[0.00123]]))

"""Annealing against probabilistic PCA, where log p(x) is a formula, and small decoders, where it is a sum over a grid."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from reverie.core.distributions import Bernoulli, Gaussian
from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.maths import ais
from reverie.maths.ais import Annealing
from reverie.maths.bounds import perceived
from reverie.models.linear import Linear, LinearConfig
from reverie.models.vae import VAE, VAEConfig
from reverie.nets.priors import StandardNormal

D, Z = 6, 2


class Rounded(StandardNormal):
    """Draws the same numbers whatever its precision."""

    def sample(self, n: int | None = None) -> Tensor:
        zero = self.zero.double()
        return Gaussian(zero, zero).sample(n).to(self.zero)


def linear(noise: float = 0.5) -> Linear:
    """p(x) = N(mu, W W' + noise^2) with signals of deviation 1 and 2."""
    generator = torch.Generator().manual_seed(1)
    model = Linear(LinearConfig(latent=Z), Space((D,), "real"))
    model.axes = torch.linalg.qr(torch.randn(D, Z, generator=generator, dtype=torch.float64))[0]
    model.mu = torch.randn(D, generator=generator, dtype=torch.float64)
    model.noise = torch.tensor(noise**2, dtype=torch.float64)
    model.variances = model.noise + torch.tensor([4.0, 1.0])
    model.prior = Rounded(Z)
    return model.double()


def bent() -> VAE:
    """Five bits behind a network with two latents, and an encoder that knows nothing."""
    torch.manual_seed(0)
    vae = VAE(VAEConfig(latent=Z, width=8, depth=1, prior="normal"), Space((5,), "bit")).eval()
    for p in vae.decoder.parameters():
        p.data *= 5
    vae.prior = Rounded(Z)
    return vae.double()


def again(x: Tensor, times: int) -> Tensor:
    """One example many times over, each with draws of its own for being different by a trifle."""
    return x + 1e-6 * torch.arange(times, dtype=x.dtype).unsqueeze(1)


@pytest.fixture
def model():
    return linear()


@pytest.fixture
def hasty(monkeypatch):
    """A pilot too short to find good steps: what holds for any steps holds for its own."""
    monkeypatch.setattr(ais, "PILOT", 10)
    monkeypatch.setattr(ais, "WARMUP", 8)


@pytest.fixture
def x(model):
    """Five likely examples, and one that is not."""
    x = model.decode(model.prior.sample(6)).sample()
    x[5] += 2
    return x


def test_the_path_is_the_sigmoid_of_the_paper():
    def sigmoid(t: float) -> float:
        return 1 / (1 + math.exp(-t))

    low, high = sigmoid(-4), sigmoid(4)
    expected = [(sigmoid(4 * (2 * t / 10 - 1)) - low) / (high - low) for t in range(11)]
    assert Annealing(steps=10).betas == pytest.approx(expected)
    assert Annealing(steps=4, sharpness=0).betas == [0, 0.25, 0.5, 0.75, 1]


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("guided", [False, True])
def test_the_mean_weight_is_an_unbiased_estimate_of_the_likelihood(model, x, guided, monkeypatch):
    if guided:  # by a q that is wrong, or there would be nothing to anneal
        exact = model.encode
        monkeypatch.setattr(model, "encode", lambda x, *_: Gaussian(0.5 * exact(x).mean, exact(x).log_scale + 0.5))
    found = Annealing(steps=12, chains=3000, leaps=2, at_once=10**6, guided=guided).forward(model, x)
    ratio = torch.exp(model.surprise(x).value - found.value)
    assert found.error.max() < 0.08
    assert ((ratio - 1).abs() < 4 * found.error).all()


@pytest.mark.usefixtures("hasty")
def test_backwards_the_mean_of_one_over_the_weights_is_unbiased(model, x):
    """Over many exact draws of z for the same x."""
    many = again(x[0], 400)
    z = model.encode(many).sample()
    found = Annealing(steps=30, chains=4, leaps=3, at_once=10**6).reverse(model, many, z)
    ratio = torch.exp(found.value - model.surprise(many).value)
    assert ratio.std() / math.sqrt(400) < 0.1
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / math.sqrt(400)


@pytest.mark.usefixtures("hasty")
def test_the_stated_error_is_the_spread_of_the_estimates(model, x):
    many = again(x[0], 250)
    found = Annealing(steps=40, chains=32, leaps=2, at_once=10**6).forward(model, many)
    off = found.value - model.surprise(many).value
    assert found.error.mean() == pytest.approx(float(off.std()), rel=0.15)
    # The log of a mean is off by half its variance, up to terms of higher order.
    assert abs(off.mean() - off.var() / 2) < 4 * off.std() / math.sqrt(250)
    assert ((found.ess > 1) & (found.ess < 32)).all()


def test_the_truth_lies_between_forward_and_reverse(model):
    found = Annealing(steps=200, leaps=2, at_once=10**6).bidirectional(model, 16)
    true = model.surprise(found.x).value
    above, below = found.forward.value - true, true - found.reverse.value
    for side in (above, below):
        assert side.mean() > -4 * side.std() / math.sqrt(16)
    assert found.gap.value.abs().max() < 0.5
    assert found.gap.value.mean() < 0.1
    torch.testing.assert_close(found.gap.value, above + below)
    assert (above.abs() < 5 * found.forward.error).all()
    assert found.forward.method == "AIS-200x16"
    assert found.reverse.method == "reverse AIS-200x16"


@pytest.mark.usefixtures("hasty")
def test_a_short_path_leaves_a_gap_on_both_sides_that_a_longer_one_narrows():
    model, gaps = linear(noise=0.1), []
    for steps in (5, 20):
        found = Annealing(steps=steps, leaps=3, at_once=10**6).bidirectional(model, 60)
        true = model.surprise(found.x).value
        for side in (found.forward.value - true, true - found.reverse.value):
            assert side.mean() > 3 * side.std() / math.sqrt(60)
        gaps.append(float(found.gap.value.mean()))
    assert gaps[1] < gaps[0] / 2


@pytest.mark.usefixtures("hasty")
def test_hidden_entries_are_integrated_out(model, x):
    observed = torch.rand(6, D) < 0.6
    observed[0], observed[1] = False, True
    settings = Annealing(steps=40, chains=300, leaps=2, at_once=10**6)
    found = settings.forward(model, x.masked_fill(~observed, math.nan), observed)
    off = (found.value - model.surprise(x, observed).value).abs()
    assert found.value[0] == 0  # nothing seen is no surprise
    assert ((off < 4 * found.error + 1e-6) & (off < 0.25)).all()
    torch.testing.assert_close(found.value[1], settings.forward(model, x).value[1])


def test_bidirectional_looks_at_observed_entries_only(model):
    observed = torch.zeros(8, D, dtype=torch.bool)
    observed[:, :3] = True
    found = Annealing(steps=60, leaps=3).bidirectional(model, 8, observed)
    assert (found.gap.value.abs() < 0.6).all()
    assert (found.forward.value - model.surprise(found.x, observed).value).abs().max() < 0.4


def test_a_guide_is_told_what_was_seen():
    vae = VAE(VAEConfig(latent=Z, width=8, depth=1, prior="normal", holes=True), Space((5,), "bit")).eval()
    x, observed = torch.ones(4, 5), torch.rand(4, 5) < 0.5
    path = ais._Path(vae, x, observed, 2, True)
    assert torch.equal(path.q.mean, perceived(vae, x, observed, None).mean)
    assert not torch.equal(path.q.mean, vae.encode(torch.where(observed, x, 0.0)).mean)


@pytest.mark.parametrize("guided", [False, True])
def test_a_decoder_that_bends_against_a_grid(guided):
    """log p(x) of bits behind a network with two latents, by the sum over a fine grid of z."""
    vae = bent()
    found = Annealing(steps=60, chains=32, leaps=2, guided=guided).bidirectional(vae, 12)
    axis = torch.linspace(-6, 6, 241, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        likelihood, log_prior = vae.decode(z), vae.prior.log_prob(z) + 2 * math.log(0.05)
        each = [Bernoulli(likelihood.logits).log_prob(row.expand(len(z), 5)) for row in found.x]
    true = -torch.logsumexp(torch.stack(each) + log_prior, 1)
    assert true.std() > 0.3
    assert ((found.forward.value - true).abs() < 4 * found.forward.error + 1e-3).all()
    assert (found.forward.value - true).abs().max() < 0.15
    assert (found.reverse.value - true).abs().max() < 0.15
    assert all(p.grad is None for p in vae.parameters())


@pytest.mark.usefixtures("hasty")
def test_an_estimate_does_not_depend_on_its_place_its_neighbours_or_the_chunks(model, x):
    z = model.encode(x).sample()
    order = torch.tensor([4, 2, 0, 5, 1, 3])

    def both(at_once: int, rows: Tensor) -> Tensor:
        settings = Annealing(steps=8, chains=8, leaps=2, at_once=at_once)
        with torch.no_grad():
            estimates = settings.forward(model, x[rows]), settings.reverse(model, x[rows], z[rows])
        return torch.stack([torch.stack([e.value, e.error, e.ess]) for e in estimates])

    whole = both(10**6, torch.arange(6))
    assert whole.shape == (2, 3, 6)
    torch.testing.assert_close(both(32, torch.arange(6)), whole)  # four at a time, then two
    torch.testing.assert_close(both(1, order), whole[..., order])
    torch.testing.assert_close(both(512, order[:1]), whole[..., order[:1]])


@pytest.mark.usefixtures("hasty")
def test_the_seed_decides_and_nobody_elses_draws_are_touched(model, x):
    torch.manual_seed(5)
    first = Annealing(steps=5, leaps=1, seed=1).forward(model, x).value
    kept = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(kept, torch.rand(3))
    assert torch.equal(first, Annealing(steps=5, leaps=1, seed=1).forward(model, x).value)
    assert not torch.isclose(first, Annealing(steps=5, leaps=1, seed=2).forward(model, x).value).any()


@pytest.mark.usefixtures("hasty")
def test_single_precision_agrees_with_double():
    x, settings = bent().sample(6), Annealing(steps=40, leaps=3)
    double = settings.forward(bent(), x)
    single = settings.forward(bent().float(), x.float())
    assert single.value.dtype == torch.float32
    torch.testing.assert_close(single.value.double(), double.value, atol=1e-4, rtol=0)


def test_the_pilot_finds_steps_that_the_run_accepts_at_the_wanted_rate(x, monkeypatch):
    seen = []

    def watched(*args):
        state, accepted = transition(*args)
        seen.append(float(accepted.mean()))
        return state, accepted

    transition = ais.transition
    monkeypatch.setattr(ais, "transition", watched)
    Annealing(steps=41, leaps=4).forward(linear(noise=0.1), x)
    run = torch.tensor(seen[-40:])
    assert len(seen) == ais.WARMUP + ais.PILOT - 2 + 40
    assert run.mean() == pytest.approx(ais.ACCEPTANCE, abs=0.04)
    assert (run - ais.ACCEPTANCE).abs().max() < 0.15


def test_what_cannot_be_annealed_is_refused(model, x):
    for settings in ({"steps": 0}, {"chains": 1}, {"leaps": 0}, {"sharpness": -1.0}, {"at_once": 0}):
        with pytest.raises(BadInput, match=f"{next(iter(settings))}=.* give at least"):
            Annealing(**settings)
    bits = SimpleNamespace(prior=Bernoulli(torch.zeros(Z)), decode=model.decode)
    with pytest.raises(BadInput, match="discrete latent"):
        Annealing(steps=2).forward(bits, x)
    blind = SimpleNamespace(prior=model.prior, decode=model.decode)
    with pytest.raises(BadInput, match="no encoder"):
        Annealing(steps=2, guided=True).forward(blind, x)
    with pytest.raises(BadInput, match="no examples"):
        Annealing(steps=2).forward(model, x[:0])

"""Learning by a recogniser: the bound against Gaussian algebra and Kalman's filter, its gradient against autograd of a plain loop."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from reverie.core.distributions import Gaussian
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Encodes
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data.config import DataConfig
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.models.cohort import Cohort, CohortConfig
from reverie.models.recurrent import Recurrent, RecurrentConfig
from reverie.training import State, fabric_for, training


def made(steps=6, channels=2, kind="real", **settings):
    """A model in float64, away from where it begins."""
    config = RecurrentConfig(hidden=5, alpha=0.3, forcing="recognised", heeded=2)
    model = Recurrent(dataclasses.replace(config, **settings), Space((steps, channels), kind)).double().eval()
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return model


class Told(torch.nn.Module):
    """A recogniser that believes what it was told."""

    def __init__(self, q):
        super().__init__()
        self.q = q

    def forward(self, x, observed=None, inputs=None):
        return Gaussian(*(part.expand(-1, -1, x.shape[2], -1) for part in (self.q.loc, self.q.log_scale)))


def joint(model, alpha):
    """Mean and covariance of (z, x) together under one member whose map is linear, from its equations."""
    steps, channels = model.space.shape
    size = model.cell.latent
    spread = model.recognition.log_spread[0, :, 0].exp()

    def both(noise):
        eps, eta = noise[: steps * size].view(steps, size), noise[steps * size :].view(steps, channels)
        z, x, e = [], [], torch.zeros(size, dtype=torch.float64)
        for t in range(steps):
            z.append(e + spread[min(t, 1)] * eps[t])
            p = model.seen(z[t].view(1, 1, -1))
            x.append(p.mean.flatten() + p.scale.flatten() * eta[t])
            e = model.cell.step((z[t] if t == 0 else e + alpha * (z[t] - e)).view(1, 1, -1)).flatten()
        return torch.stack(z).flatten(), torch.stack(x).flatten()

    def flat(noise):
        return torch.cat(both(noise))

    zero = torch.zeros(steps * (size + channels), dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(flat, zero)
    return flat(zero).detach(), slope @ slope.T


def posterior(model, x, alpha):
    """log p(x) and p(z | x)."""
    mean, covariance = joint(model, alpha)
    n = model.space.shape[0] * model.cell.latent
    of_x = covariance[n:, n:]
    way = covariance[:n, n:] @ torch.linalg.inv(of_x)
    left = covariance[:n, :n] - way @ covariance[n:, :n]
    left = 0.5 * (left + left.T)
    return MultivariateNormal(mean[n:], of_x).log_prob(x), MultivariateNormal(mean[:n] + way @ (x - mean[n:]), left)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_linear_the_bound_is_the_evidence_less_what_q_is_wrong_by(alpha):
    model = made(5, 2, latent=3, alpha=alpha)
    model.cell.W1.data.zero_()
    x = torch.randn(5, 1, 1, 2, dtype=torch.float64)
    evidence, exact = posterior(model, x.flatten(), alpha)
    best = exact.precision_matrix.diagonal().rsqrt()  # of all factorised beliefs the nearest
    for loc, scale in ((exact.mean, best), (exact.mean + 0.3, 2 * best)):
        q = Gaussian(loc.view(5, 1, 1, 3), scale.log().view(5, 1, 1, 3))
        model.recognition.recogniser = Told(q)
        wanted = evidence - kl_divergence(MultivariateNormal(loc, torch.diag(scale.square())), exact)
        draws = torch.stack([-model.learned(x.expand(-1, -1, 1000, -1), None, None, 0)[1] for _ in range(20)])
        error = draws.std() / 20**0.5
        assert (draws.mean() - wanted).abs() < 5 * error + 1e-9
        assert wanted < evidence


def test_with_the_exact_posterior_the_bound_is_the_evidence_of_a_kalman_filter():
    """Where a state forgets at once the posterior is a product over steps. The filter knows only a, q and r."""
    model = made(6, 1, alpha=1.0, observation="identity")
    model.cell.W1.data.zero_(), model.cell.a.data.zero_()
    first, later = model.recognition.log_spread[0, :, 0, 0].exp().square().tolist()
    r, h = model.seen.modality.log_scale.exp().square().item(), model.cell.h.item()
    x = torch.randn(6, 1, 1, 1, dtype=torch.float64)
    mean, variance, evidence, parts = 0.0, first, 0.0, []
    for value in x.flatten().tolist():
        evidence -= 0.5 * (np.log(2 * np.pi * (variance + r)) + (value - mean) ** 2 / (variance + r))
        gain = variance / (variance + r)
        parts.append((mean + gain * (value - mean), (1 - gain) * variance))
        mean, variance = h, later  # a = 0
    loc, left = (torch.tensor(column, dtype=torch.float64).view(6, 1, 1, 1) for column in zip(*parts, strict=True))
    model.recognition.recogniser = Told(Gaussian(loc, 0.5 * left.log()))
    draws = torch.stack([-model.learned(x.expand(-1, -1, 1000, -1), None, None, 0)[1] for _ in range(20)])
    assert (draws.mean() - evidence).abs() < 5 * draws.std() / 20**0.5


def plainly(model, x, observed, inputs, noise):
    """The negative bound, one step after the other."""
    q = model.recognition.recogniser(model.seen.linked(x), observed, inputs)
    z, total, e = q.mean + q.scale * noise, 0.0, torch.zeros_like(q.mean[0])
    for t in range(len(x)):
        scale = model.recognition.log_spread[:, min(t, 1)].exp()
        a, b = (torch.distributions.Normal(*pair) for pair in ((q.mean[t], q.scale[t]), (e, scale)))
        seen = model.seen(z[t]).log_prob(x[t], None if observed is None else observed[t])
        total = total + kl_divergence(a, b).sum(-1) - seen
        e = model.cell.step(z[t] if t == 0 else e + model.config.alpha * (z[t] - e))
        if inputs is not None and t + 1 < len(x):
            e = e + inputs[t + 1] @ model.C
    return total.mean(-1)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("real", {"latent": 3}), ("count", {}), ("count", {"cell": "gru"}), ("real", {"cell": "clipped", "alpha": 1.0}),
     ("count", {"observation": "negative_binomial", "cell": "dendritic", "inputs": 2})],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("holes", [False, True])
def test_its_gradient_is_that_of_the_plain_loop(kind, settings, holes, monkeypatch):
    model = made(7, 2, kind, members=2, **settings)
    x = torch.randn(7, 2, 4, 2, dtype=torch.float64)
    x = x if kind == "real" else torch.poisson(x.exp())
    observed = torch.rand(x.shape) < 0.7 if holes else None
    x = torch.where(observed, x, 0.0) if holes else x
    inputs = torch.randn(7, 2, 4, 2, dtype=torch.float64) if model.C is not None else None
    noise = torch.randn(7, 2, 4, model.cell.latent, dtype=torch.float64)
    monkeypatch.setattr(Gaussian, "sample", lambda self, n=None: self.place(noise))
    found, wanted = model.learned(x, observed, inputs, 0)[1], plainly(model, x, observed, inputs, noise)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    names, parameters = zip(*model.named_parameters(), strict=True)
    ours, theirs = (torch.autograd.grad(part.sum(), parameters, allow_unused=True) for part in (found, wanted))
    for name, a, b in zip(names, ours, theirs, strict=True):
        if name == "seen.guess":
            assert a is None
            continue
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9, msg=name)


def test_what_lies_behind_holes_reaches_nothing():
    model, observed = made(7, 3, "count", latent=2), torch.rand(4, 7, 3) < 0.6
    x, found = torch.poisson(torch.full((4, 7, 3), 2.0, dtype=torch.float64)), []
    for behind in (0.0, torch.nan):
        torch.manual_seed(0)
        (phase,) = model.phases(Batch(torch.where(observed, x, behind), observed), 0)
        found.append([phase.report, *(g for g in phase.gradients if g is not None)])
    for a, b in zip(*found, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)
    assert torch.equal(model.encode(x, observed).mean, model.encode(torch.where(observed, x, torch.nan), observed).mean)


def test_the_bound_is_told_and_what_is_foretold_is_taught_beside_it(monkeypatch):
    model, x = made(7, 2), torch.randn(4, 7, 2, dtype=torch.float64)
    noise = torch.randn(7, 1, 4, 2, dtype=torch.float64)
    monkeypatch.setattr(Gaussian, "sample", lambda self, n=None: self.place(noise))
    (phase,) = model.phases(Batch(x), 0)
    by_time, _, _ = model.by_time(x)
    expected, bound = model.learned(by_time, None, None, 0)
    torch.testing.assert_close(phase.report, bound.mean())
    whole = (bound + model.nats(expected, by_time, None).sum(0).mean(-1)).sum()
    wanted = torch.autograd.grad(whole, list(model.parameters()), allow_unused=True)
    for a, b in zip(phase.gradients, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_members_learn_as_if_alone(monkeypatch):
    model = made(8, 3, members=2, latent=2)
    x = torch.randn(8, 2, 5, 3, dtype=torch.float64)
    noise = torch.randn(8, 2, 5, 2, dtype=torch.float64)
    monkeypatch.setattr(Gaussian, "sample", lambda self, n=None: self.place(noise[:, -self.mean.shape[1] :]))
    states, nats = model.learned(x, None, None, 0)
    alone = made(8, 3, latent=2)
    alone.load_state_dict({k: v if v.dim() == 0 else v[1:] for k, v in model.state_dict().items()})
    torch.testing.assert_close(alone.learned(x[:, 1:], None, None, 0)[1], nats[1:])
    torch.testing.assert_close(alone.learned(x[:, 1:], None, None, 0)[0], states[:, 1:])
    torch.testing.assert_close(
        alone.encode(x[:, 1].transpose(0, 1)).mean, model.encode(x[:, 1].transpose(0, 1)).mean[:, 1:]
    )


def test_there_is_nothing_to_perceive_with_unless_it_was_taught():
    assert isinstance(made(), Encodes)
    assert not isinstance(made(forcing="fixed"), Encodes)
    model = made(6, 2, members=3, latent=4)
    q = model.encode(torch.randn(5, 9, 2, dtype=torch.float64))
    assert q.mean.shape == (5, 3, 9, 4)
    assert q.log_prob(q.sample()).shape == (5,)
    with pytest.raises(BadInput, match="recogniser"):
        Cohort(CohortConfig(classes=2, forcing="recognised"), Space((6, 2), "real"))


def learn(data, steps, **settings):
    torch.manual_seed(0)
    config = RecurrentConfig(forcing="recognised", **settings)
    state = State(
        Recurrent(config, data.space), TrainingConfig(steps=steps, batch=16, rate=1e-2, clip=10.0, average=0.0)
    )
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    return state.average


def test_it_finds_what_kalmans_smoother_finds():
    """A leaking random walk seen through noise, its numbers told: of all factorised beliefs the nearest has the means of the
    smoother, and the deviations of each state given its neighbours."""
    a, q, r, steps = 0.95, 0.1, 0.5, 40
    model = made(steps, 1, alpha=1.0, heeded=12).float()
    for part, value in (
        (model.cell.a, a),
        (model.cell.h, 0.0),
        (model.cell.W1, 0.0),
        (model.seen.modality.log_scale, 0.5 * np.log(r)),
    ):
        part.data.fill_(value)
    first = q / (1 - a * a)
    model.recognition.log_spread.data.copy_(0.5 * torch.tensor([first, q]).log().view(1, 2, 1, 1))

    def series(n):
        z = [first**0.5 * torch.randn(n)]
        for _ in range(steps - 1):
            z.append(a * z[-1] + q**0.5 * torch.randn(n))
        return (torch.stack(z) + r**0.5 * torch.randn(steps, n)).view(steps, 1, n, 1)

    torch.manual_seed(0)
    adam = torch.optim.Adam(model.recognition.recogniser.parameters(), lr=1e-2)
    for i in range(300):
        adam.param_groups[0]["lr"] = 1e-2 * (1 - i / 300)
        nats = model.learned(series(32), None, None, 0)[1].sum()
        nats.backward(inputs=list(model.recognition.recogniser.parameters()))
        adam.step()
        adam.zero_grad()
    x = series(500)
    _, exact = posterior(model.double(), x[:, 0, 0, 0].double(), 1.0)
    covariance = exact.covariance_matrix
    way = covariance / r  # of p(z | x), whose mean is linear in x here
    smooth = torch.einsum("ts,sb->tb", way, x[:, 0, :, 0].double())
    torch.testing.assert_close(smooth[:, 0], exact.mean, rtol=1e-6, atol=1e-6)
    belief = model.encode(x[:, 0].transpose(0, 1).double())
    apart = (belief.mean[:, 0, :, 0].T - smooth).square().mean(1)
    assert apart.mean() < 0.1 * covariance.diagonal().mean()
    wanted = exact.precision_matrix.diagonal().rsqrt()
    assert ((belief.scale[:, 0, :, 0].mean(0) / wanted)[1:-1] - 1).abs().max() < 0.1  # ends are rare


def test_a_circle_is_found_through_counts():
    rng = np.random.default_rng(0)
    angle = np.arange(3000) * 0.2
    way = rng.standard_normal((2, 12))
    counts = rng.poisson(np.exp(0.3 + np.stack([np.cos(angle), np.sin(angle)], 1) @ way)).astype(np.int32)
    data = from_trials("circle", [Trial(counts)], {}, DataConfig(window=50), kind="count")
    model = learn(data, 300, members=2, latent=2, hidden=20, alpha=0.1, heeded=8)
    assert not model.diverged.any()
    assert (model.rested == 0).all()
    run = model.cell.orbit(model.seen.start(data.test.x(1)[0, :1], None), 1300)[1000:, :, 0]
    turns = ((run[1:, :, 0] > run.mean(0)[:, 0]) != (run[:-1, :, 0] > run.mean(0)[:, 0])).sum(0) / 2
    assert (turns - 300 * 0.2 / (2 * np.pi)).abs().max() <= 1
    believed = model.encode(data.test.x(20)).mean  # each member in coordinates of its own
    radii = run.square().sum(-1).sqrt().mean(0), believed.square().sum(-1).sqrt().mean((0, 2))
    assert (radii[0] / radii[1] - 1).abs().max() < 0.1


def test_once_it_has_learned_unseen_units_begin_where_they_are_believed():
    x = np.random.default_rng(0).standard_normal((300, 2)).astype(np.float32)
    data = from_trials("noise", [Trial(x)], {}, DataConfig(window=20))
    model = made(20, 2, members=2, latent=5).float()
    model.solve(data, TrainingConfig())
    first = model.encode(data.valid.x(200)).mean[:, :, 0].transpose(0, 1)
    left = first[..., 2:] - first[..., :2] @ model.seen.guess
    assert (first[..., :2].mT @ left).abs().max() < 1e-3
    assert model.seen.guess.abs().max() > 0.01

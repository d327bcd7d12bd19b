"""The recurrent model as a distribution: against Gaussian algebra and a Kalman filter where it is linear, and by sums."""

import dataclasses

import numpy as np
import pytest
import torch

from reverie.core.corruption import GaussianNoise
from reverie.core.distributions import Gaussian
from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Column, Space
from reverie.data.config import DataConfig
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.evaluation import evaluate
from reverie.models.recurrent import Recurrent, RecurrentConfig
from reverie.nets.recurrence import lasting
from reverie.nets.smoothing import parabolas, smoothing
from reverie.training import State, fabric_for, told, training


def made(steps=6, channels=2, kind="real", scale=0.1, **settings):
    """A model in float64, away from where it begins."""
    config = dataclasses.replace(RecurrentConfig(hidden=5, alpha=0.3), **settings)
    model = Recurrent(config, Space((steps, channels), kind)).double().eval()
    for p in model.parameters():
        p.data.add_(scale * torch.randn_like(p))
    return model


def linear(steps=6, channels=2, **settings):
    """One whose map is linear, so that every x is Gaussian."""
    model = made(steps, channels, **settings)
    model.cell.W1.data.zero_()
    return model


def gaussian(model):
    """Mean (D,) and covariance (D, D) of x under one linear member: x is affine in its standard normal innovations."""
    steps, channels = model.space.shape

    def x_of(noise):
        noise, x, z = noise.view(steps, 1, 1, channels), [], None
        scale = model.seen.modality.log_scale.exp()
        for t in range(steps):
            if t == 0:
                x.append(noise[0])
                z = model.seen.start(x[0], None)
            else:
                x.append(z[..., :channels] + scale * noise[t])
            pull = model.seen.forcing(x[t].unsqueeze(0), model.gain.view(1, -1, 1, 1))
            z = model.cell.step(pull.pulled(z, 0))
        return torch.stack(x).flatten()

    zero = torch.zeros(steps * channels, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(x_of, zero)
    return x_of(zero), slope @ slope.T


def test_linear_it_is_a_gaussian():
    model = linear()
    law = torch.distributions.MultivariateNormal(*gaussian(model))
    x = torch.randn(4, 6, 2, dtype=torch.float64)
    torch.testing.assert_close(model.surprise(x).value, -law.log_prob(x.flatten(1)))
    assert (model.surprise(x).error == 0).all()
    torch.testing.assert_close(model.surprise_by_step(x).sum(1), model.surprise(x).value)


def test_linear_its_samples_have_the_moments():
    model = linear(4)
    mean, covariance = gaussian(model)
    x = model.double().sample(20_000).double().flatten(1)
    assert (x.mean(0) - mean).abs().max() < 0.05 * covariance.diagonal().sqrt().max()
    assert (x.T.cov() - covariance).abs().max() < 0.05 * covariance.abs().max()


def test_holes_are_integrated_out_and_filled_from_both_sides():
    model = linear(5)
    mean, covariance = gaussian(model)
    x = torch.randn(3, 5, 2, dtype=torch.float64)
    observed = torch.ones(5, 2, dtype=torch.bool)
    observed[2] = False
    observed[3, 0] = False
    seen = observed.flatten()
    holed = torch.where(observed, x, torch.nan)
    law = torch.distributions.MultivariateNormal(mean[seen], covariance[seen][:, seen])
    exact = -law.log_prob(x.flatten(1)[:, seen])
    found = model.surprise(holed.repeat(200, 1, 1), observed.expand(600, -1, -1)).value.view(200, 3)
    assert ((-found).exp().mean(0) / (-exact).exp() - 1).abs().max() < 0.1  # unbiased for p(x)
    along = covariance[~seen][:, seen] @ torch.linalg.inv(covariance[seen][:, seen])
    wanted = mean[~seen] + (x.flatten(1)[:, seen] - mean[seen]) @ along.T
    left = (covariance[~seen][:, ~seen] - along @ covariance[seen][:, ~seen]).diagonal()
    draws = model.repair(holed, observed.expand(3, -1, -1), 4000)
    assert torch.equal(draws[:, :, observed], x[:, observed].expand(4000, -1, -1))
    filled = draws.flatten(2)[..., ~seen]
    assert (filled.mean(0) - wanted).abs().max() < 0.12 * left.sqrt().max()
    assert (filled.var(0) / left - 1).abs().max() < 0.2


@pytest.mark.parametrize("spoiled", [float, GaussianNoise])
def test_noise_is_taken_away(spoiled):
    model = linear(5)
    mean, covariance = gaussian(model)
    y, noise = torch.randn(2, 5, 2, dtype=torch.float64), 0.7
    total = torch.linalg.inv(covariance + noise**2 * torch.eye(10))
    wanted = mean + (y.flatten(1) - mean) @ (covariance @ total).T
    left = (covariance - covariance @ total @ covariance).diagonal()
    draws = model.repair(y, None, 4000, spoiled(noise)).flatten(2)
    assert (draws.mean(0) - wanted).abs().max() < 0.12 * left.sqrt().max()
    torch.testing.assert_close(draws.var(0), left.expand(2, -1), rtol=0.25, atol=0)


def test_a_member_that_ran_away_spoils_nothing():
    """What the others say is all that is heard, of holes too."""
    model, alone = linear(5, members=2), linear(5)
    alone.load_state_dict(
        {name: part[:1] if part.dim() and len(part) == 2 else part for name, part in model.state_dict().items()}
    )
    model.cell.a.data[1], model.gain[1] = 1e30, 0.0
    model.diverged[1] = True
    x, observed = torch.randn(2, 5, 2, dtype=torch.float64), torch.ones(2, 5, 2, dtype=torch.bool)
    observed[:, 2] = False
    found = model.surprise(x, observed)
    assert found.error.isfinite().all()
    assert ((found.value - alone.surprise(x, observed).value).abs() < 5 * found.error + 0.02).all()
    assert model.repair(x, observed, 3).isfinite().all()


@pytest.mark.parametrize("kind", ["real", "count", "mixed"])
def test_who_ran_away_does_not_stop_the_draws_of_the_others(kind):
    columns = (Column("a", "real"), Column("b", "category", 3), Column("c", "count")) if kind == "mixed" else ()
    model = Recurrent(RecurrentConfig(members=2, hidden=4), Space((200, 3), kind, columns)).eval()
    model.cell.a.data[1] = 1e30
    model.diverged[1] = True
    assert model.sample(3).isfinite().all()
    run = model.free_run(200, process_noise=True)
    assert run[0].isfinite().all()
    assert kind == "mixed" or not run[1].isfinite().all()  # its end is told, where numbers can tell it


def test_inputs_that_end_too_soon_are_refused():
    model = Recurrent(RecurrentConfig(inputs=1, members=2), Space((5, 2), "real"))
    x = torch.randn(2, 5, 2)
    with pytest.raises(BadInput, match="inputs of 3 steps cannot drive 5"):
        model.by_time(x, None, torch.zeros(2, 3, 1))
    with pytest.raises(BadInput, match="inputs of 3 steps cannot drive 5"):
        model.free_run(5, x[:, 0], torch.zeros(3, 1, 2, 1))


def test_beliefs_are_not_shaken_besides():
    with pytest.raises(BadInput, match="process-noise to 0"):
        Recurrent(RecurrentConfig(forcing="recognised", process_noise=0.1), Space((5, 2), "real"))


def test_one_input_drives_every_orbit():
    model = Recurrent(RecurrentConfig(inputs=2, members=2), Space((5, 2), "real"))
    drive = torch.randn(25, 2, 1, 2)
    assert torch.equal(lasting(drive, 20, torch.zeros(2, 4, 2)), drive[:20].expand(20, 2, 4, 2))
    assert model.free_run(20, None, torch.randn(20, 1, 1, 2)).isfinite().all()


def test_with_the_right_gain_it_is_a_kalman_filter():
    """A random walk that leaks, z' = a z + N(0, q), seen through N(0, r): in its steady state the filter's gain and the variance of
    its innovations are those of the model, and so are its predictions."""
    a, q, r, n = 0.9, 0.3, 0.5, 200
    p = q
    for _ in range(500):
        p = a * a * p * r / (p + r) + q
    model = linear(n, 1, hidden=1)
    model.cell.a.data.fill_(a)
    model.cell.h.data.zero_()
    model.gain.fill_(p / (p + r))
    model.seen.modality.log_scale.data.fill_(0.5 * np.log(p + r))
    x = torch.randn(1, n, 1, dtype=torch.float64).cumsum(1) * 0.3
    mean, variance, nats = 0.0, 1.0, []
    for value in x.flatten().tolist():
        nats.append(0.5 * (np.log(2 * np.pi * (variance + r)) + (value - mean) ** 2 / (variance + r)))
        gain = variance / (variance + r)
        mean, variance = a * (mean + gain * (value - mean)), a * a * (1 - gain) * variance + q
    found = model.surprise_by_step(x)[0].numpy()
    assert np.abs(found[100:] - nats[100:]).max() < 1e-9


@pytest.mark.parametrize(
    "settings", [{"latent": 3}, {"members": 3}, {"cell": "gru"}, {"observation": "gaussian"}], ids=str
)
def test_its_density_has_mass_one(settings):
    model = made(2, 1, **settings)
    grid = torch.linspace(-12, 12, 400, dtype=torch.float64)
    every = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).view(-1, 2, 1)
    mass = (-model.surprise(every).value).exp().sum() * (grid[1] - grid[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-4)


def test_a_mixture_is_the_mean_of_its_members():
    model, x = made(members=3), torch.randn(4, 6, 2, dtype=torch.float64)
    each = []
    for s in range(3):
        one = made()
        one.load_state_dict({k: v[s : s + 1] for k, v in model.state_dict().items()})
        each.append(one.surprise(x).value)
    wanted = -torch.logsumexp(-torch.stack(each), 0) + np.log(3)
    torch.testing.assert_close(model.surprise(x).value, wanted)
    model.diverged[1] = True
    wanted = -torch.logsumexp(-torch.stack(each[::2]), 0) + np.log(2)
    torch.testing.assert_close(model.surprise(x).value, wanted)


def test_a_forecast_goes_on_from_what_was_seen():
    model = linear(6)
    mean, covariance = gaussian(model)
    x = torch.randn(2, 4, 2, dtype=torch.float64)
    along = covariance[8:, :8] @ torch.linalg.inv(covariance[:8, :8])
    wanted = mean[8:] + (x.flatten(1) - mean[:8]) @ along.T
    draws = model.forecast(x, 2, 4000)
    assert draws.shape == (4000, 2, 2, 2)
    assert (draws.flatten(2).mean(0) - wanted).abs().max() < 0.1 * covariance.diagonal().sqrt().max()


def test_a_free_run_is_the_map_and_nothing_else():
    model, start = made(members=2, latent=3), torch.randn(3, 2, dtype=torch.float64)
    x = model.free_run(4, start)
    assert x.shape == (2, 3, 4, 2)
    z = model.seen.start(start.unsqueeze(0), None)
    for t in range(4):
        z = model.cell.step(z)
        torch.testing.assert_close(x[:, :, t], z[..., :2])


@pytest.mark.parametrize(
    "settings", [{}, {"latent": 3, "inputs": 2}, {"observation": "gaussian"}, {"cell": "gru"}], ids=str
)
def test_what_pulls_by_nothing_is_no_process_noise(settings):
    model, start = made(members=2, **settings), torch.randn(3, 2, dtype=torch.float64)
    inputs = torch.randn(7, 1, 3, 2, dtype=torch.float64) if "inputs" in settings else None
    model.gain.zero_()
    torch.testing.assert_close(model.free_run(7, start, inputs, process_noise=True), model.free_run(7, start, inputs))


def test_process_noise_is_what_a_linear_machine_could_not_foresee():
    """z' = a (z + gain e), with e ~ N(0, s^2): after t steps of variance (a gain s)^2 (1 - a^2t) / (1 - a^2), and none after the first,
    which follows from what was seen."""
    a, gain, s = 0.9, 0.4, 0.7
    model, start = linear(6, 1, hidden=1, members=2), torch.full((40_000, 1), 2.0, dtype=torch.float64)
    model.cell.a.data.fill_(a)
    model.cell.h.data.zero_()
    model.gain.copy_(torch.tensor([gain, 0.5 * gain]))
    model.seen.modality.log_scale.data.fill_(np.log(s))
    run = model.free_run(8, start, process_noise=True)[..., 0]
    time = torch.arange(8, dtype=torch.float64)
    torch.testing.assert_close(run.mean(1), (2 * a ** (time + 1)).expand(2, -1), atol=0.01, rtol=0)
    wanted = (a * s) ** 2 * (1 - a ** (2 * time)) / (1 - a**2) * torch.tensor([[gain**2], [gain**2 / 4]])
    torch.testing.assert_close(run.var(1), wanted, rtol=0.04, atol=1e-12)


@pytest.mark.parametrize(
    "settings", [{"latent": 3, "inputs": 2}, {"observation": "gaussian"}, {"cell": "gru"}], ids=str
)
def test_one_sweep_is_moved_as_step_by_step(settings, monkeypatch):
    """By draws that are always one deviation above the mean, in the sweep and where each is drawn after the last."""
    model, start = made(members=2, **settings), torch.randn(3, 2, dtype=torch.float64)
    inputs = torch.randn(7, 1, 3, 2, dtype=torch.float64) if "inputs" in settings else None
    monkeypatch.setattr(Gaussian, "sample", lambda law: law.loc + law.log_scale.exp())
    swept = model.free_run(7, start, inputs, process_noise=True)
    monkeypatch.setattr("reverie.models.innovations.RealModality", ())
    torch.testing.assert_close(model.free_run(7, start, inputs, process_noise=True), swept)


def test_process_noise_in_learning_is_forgotten_as_fast_as_the_pull_has_it():
    """z' = a (1 - alpha) z + noise: about where it would be without, of variance s^2 (1 - r^2t) / (1 - r^2) with r = a (1 - alpha)."""
    a, alpha, s = 0.9, 0.3, 0.2
    x = torch.randn(8, 1, 40_000, 1, dtype=torch.float64)
    model = linear(8, 1, hidden=1, members=2, alpha=alpha, process_noise=s, smooth=0)
    model.cell.a.data.fill_(a)
    calm, _ = model.learned(x, None, None, 0)
    torch.testing.assert_close(
        calm, model.forced(x, None, None, model.weight(x, None, 0))
    )  # where it is only judged, none
    moved, _ = model.train().learned(x, None, None, 0)
    time, r = torch.arange(8, dtype=torch.float64), a * (1 - alpha)
    away = (moved - calm)[..., 0]
    assert away.mean(-1).abs().max() < 0.01
    wanted = s**2 * (1 - r ** (2 * time)) / (1 - r**2)
    torch.testing.assert_close(away.var(-1), wanted.unsqueeze(1).expand(-1, 2), rtol=0.04, atol=1e-12)


# learning


def circle(n=400, noise=0.1, channels=2):
    rng = np.random.default_rng(0)
    angle = np.arange(n) * 0.3
    x = np.stack([np.cos(angle + i) for i in range(channels)], 1)
    return (x + noise * rng.standard_normal(x.shape)).astype(np.float32)


def some_data(**options):
    config = DataConfig(window=30, **options)
    return from_trials("circle", [Trial(circle())], {}, config)


def test_the_first_step_of_adam_is_one_rate_against_each_gradient(monkeypatch):
    data, given = some_data(), []
    model = Recurrent(RecurrentConfig(hidden=7, members=2, smooth=0), data.space)
    state = State(model, TrainingConfig(steps=1, batch=8, rate=1e-3, warmup=0.0, average=0.0))
    before, phases = [p.detach().clone() for p in model.parameters()], model.phases

    def told(*round):
        given.extend(phases(*round))
        yield from given

    monkeypatch.setattr(model, "phases", told)
    list(training(state, data, 0, fabric_for("cpu")))
    for was, now, gradient in zip(before, model.parameters(), given[0].gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(was - now, 1e-3 * gradient.sign(), rtol=0, atol=2e-5)


@pytest.mark.parametrize("forcing", ["fixed", "annealed", "adaptive", "sparse"])
def test_it_learns_to_turn_in_circles(forcing):
    data = some_data()
    config = RecurrentConfig(hidden=20, members=2, forcing=forcing, alpha=0.3, interval=8, halving=100)
    state = State(Recurrent(config, data.space), TrainingConfig(steps=200, batch=8, rate=1e-2, clip=10.0, average=0.0))
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    model = state.average
    assert not model.diverged.any()
    assert (model.rested == 0).all()
    x = data.test.x()
    # The noise is 0.14 of the standardised deviation, and a step of the circle 0.3 of its radius.
    assert model.seen.modality.log_scale.exp().max() < 0.2
    assert model.surprise(x).value.mean() / x[0].numel() < 0
    run = model.free_run(300)[:, 0]
    assert (run.square().sum(-1).sqrt().std(1) < 0.4).all()
    assert (run.std(1) - 1).abs().max() < 0.25
    turns = ((run[:, 1:, 0] > 0) != (run[:, :-1, 0] > 0)).sum(1) / 2
    assert (turns - 300 * 0.3 / (2 * np.pi)).abs().max() <= 2


def test_members_learn_as_if_alone():
    """What one member's gradient is does not depend on the others, or on their not being finite."""
    model = made(members=3).train()
    batch = Batch(torch.randn(6, 6, 2, dtype=torch.float64))
    alone = Recurrent(dataclasses.replace(model.config, members=1), model.space).double()
    alone.load_state_dict({k: v[1:2] for k, v in model.state_dict().items()})
    wanted = next(iter(alone.phases(batch.rows(torch.tensor([2, 3])), 0))).gradients
    model.cell.a.data[0] *= 1e200
    (phase,) = model.phases(batch, 0)
    for found, one in zip(phase.gradients, wanted, strict=True):
        torch.testing.assert_close(found[1:2], one)
        assert (found[0] == 0).all()
    assert model.rested.tolist() == [1, 0, 0]
    assert np.isfinite(told(phase))


def test_gradients_are_clipped_member_by_member():
    data = some_data()
    states = []
    for clip in (0.0, 1e-3):
        torch.manual_seed(0)
        model = Recurrent(RecurrentConfig(hidden=4, members=2), data.space)
        model.cell.W1.data[0] *= 100  # whose gradients are larger
        state = State(
            model, TrainingConfig(steps=1, batch=4, optimiser="sgd", rate=1.0, warmup=0.0, clip=clip, average=0.0)
        )
        before = [p.detach().clone() for p in model.parameters()]
        next(training(state, data, 0, fabric_for("cpu")))
        states.append([(p - b).flatten(1) for p, b in zip(model.parameters(), before, strict=True)])
    free, clipped = (torch.cat(moved, 1) for moved in states)
    torch.testing.assert_close(clipped.norm(dim=1), torch.full((2,), 1e-3), rtol=1e-3, atol=0)
    torch.testing.assert_close(1e3 * clipped, free / free.norm(dim=1, keepdim=True), atol=1e-3, rtol=0)


def test_one_that_runs_away_is_counted_and_left_out():
    data = some_data()
    model = Recurrent(RecurrentConfig(hidden=4, members=3), data.space)
    model.cell.a.data[1] = 1.1
    model.solve(data, TrainingConfig())
    assert model.diverged.tolist() == [False, True, False]
    assert model.usable.tolist() == [True, False, True]
    assert model.dream(8).isfinite().all()
    assert model.sample(8).abs().max() < 100


def test_the_gain_is_the_likeliest():
    data = some_data()
    model = Recurrent(RecurrentConfig(hidden=4, members=2), data.space)
    model.solve(data, TrainingConfig())
    kept, x = model.gain.clone(), data.valid.x()
    best = model.surprise(x).value
    every = torch.ones(30, 1, 1, 1)
    x, _, _ = model.by_time(x)
    found = model._tried(kept.view(1, -1, 1, 1) * every, x, None, None)[0]
    for gain in (0.0, 0.1, 0.5, 1.0):
        assert (found <= model._tried(gain * every, x, None, None)[0] + 1e-4).all()
    assert best.mean() <= found.mean() + 1  # of the mixture; the noise was set to what is left over


def test_alpha_adapts_to_how_errors_grow():
    model = made(30, members=2, forcing="adaptive").train()
    for w in (model.cell.W1, model.cell.h):
        w.data.zero_()
    model.cell.a.data = torch.tensor([[1.25, 0.5], [0.9, 0.5]], dtype=torch.float64)
    for step in range(0, 1000, 10):
        list(model.phases(Batch(0.01 * torch.randn(8, 30, 2, dtype=torch.float64)), step))
    assert model.alpha.tolist() == pytest.approx([1 - 1 / 1.25, 0], abs=0.02)


def test_forcing_weights():
    x, observed = torch.zeros(6, 1, 3, 2), torch.rand(6, 1, 3, 2) < 0.5
    sparse = made(forcing="sparse", interval=3).weight(x, observed, 0)
    assert torch.equal(sparse[1:3], torch.zeros(2, 1, 3, 2))
    assert torch.equal(sparse[::3], observed[::3].double())
    annealed = made(forcing="annealed", alpha=0.4, halving=100)
    assert annealed.weight(x, None, 300).unique().item() == pytest.approx(0.05)


def test_inputs_drive_it():
    model = made(inputs=2)
    x, inputs = torch.randn(4, 6, 2, dtype=torch.float64), torch.randn(4, 6, 2, dtype=torch.float64)
    (phase,) = model.phases(Batch(x, None, None, inputs), 0)
    names = [name for name, _ in model.named_parameters()]
    assert phase.gradients[names.index("C")].abs().max() > 0
    a, b = model.surprise_by_step(x, inputs), model.surprise_by_step(x, torch.cat([inputs[:, :3], -inputs[:, 3:]], 1))
    torch.testing.assert_close(a[:, :3], b[:, :3])  # from the step on at which they differ
    assert ((a - b)[:, 3] != 0).all()
    with pytest.raises(BadInput, match="trained with inputs"):
        model.surprise(x)
    with pytest.raises(BadInput, match=r"circle has 0 inputs, and --model\.inputs is 2"):
        model.prepare(some_data())


@pytest.mark.parametrize(
    ("space", "settings", "words"),
    [
        (Space((3,), "real"), {}, "--data.window"),
        (Space((9, 3), "real"), {"latent": 2, "observation": "identity"}, "2 latent units cannot be 3 channels"),
        (Space((9, 3), "count"), {"observation": "gaussian"}, "does not fit count"),
        (Space((9, 3), "real"), {"cell": "gru", "forcing": "adaptive"}, "not piecewise linear"),
        (Space((9, 3), "real"), {"remembering": 4}, "more than the 3"),
        (Space((9, 3), "real"), {"cell": "almost_linear"}, "hidden is too large"),
    ],
    ids=str,
)
def test_what_cannot_be_is_told(space, settings, words):
    with pytest.raises(BadInput, match=words):
        Recurrent(RecurrentConfig(**settings), space)


def test_units_that_should_remember_do():
    data = some_data()
    kept = []
    for attraction in (0.0, 100.0):
        torch.manual_seed(0)
        config = RecurrentConfig(latent=4, hidden=5, remembering=2, attraction=attraction)
        state = State(Recurrent(config, data.space), TrainingConfig(steps=60, batch=4, rate=5e-3, average=0.0))
        for _ in training(state, data, 0, fabric_for("cpu")):
            pass
        kept.append(state.average.cell.a[0, 2:].min().item())
    assert kept[1] > 0.97 > kept[0]


@pytest.mark.parametrize("observation", ["identity", "gaussian"])
def test_what_it_foresees_is_the_free_run_from_the_filtered_state(observation):
    model = made(9, members=2, observation=observation)
    x = torch.randn(3, 9, 2, dtype=torch.float64)
    found = model.foresee(x, 2)
    assert found.shape == (2, 3, 7, 2)
    z = model.seen.start(x[:, 0].unsqueeze(0), None)
    for t in range(7):
        pull = model.seen.forcing(x[:, t].view(1, 1, 3, 2), model.gain.view(1, -1, 1, 1))
        z = model.cell.step(pull.pulled(z, 0))
        torch.testing.assert_close(found[:, :, t], model.seen(model.cell.step(z)).mean)


def test_runs_and_forecasts_are_scored():
    data = some_data()
    model = Recurrent(RecurrentConfig(hidden=4, members=2), data.space)
    model.solve(data, TrainingConfig())
    scores = {score.name: score for score in evaluate(model, data, draws=2)}
    assert {"nats", "d_stsp", "d_hellinger", "pe_20"} <= set(scores)
    assert "2 members, 0 diverged" in scores["d_stsp"].method
    model.diverged[:] = True
    assert evaluate(model, data, draws=2)


def test_what_acts_from_outside_is_learned_and_scored(tmp_path):
    """A leak that is pushed: without the inputs its steps cannot be foreseen."""
    rng = np.random.default_rng(0)
    push, x = rng.standard_normal((800, 1)).astype(np.float32), np.zeros((800, 1), np.float32)
    for t in range(1, 800):
        x[t] = 0.8 * x[t - 1] + push[t] + 0.05 * rng.standard_normal()
    data = from_trials("pushed", [Trial(x, push)], {}, DataConfig(window=20))
    config = RecurrentConfig(hidden=2, inputs=1, alpha=0.5)
    state = State(Recurrent(config, data.space), TrainingConfig(steps=300, batch=8, rate=2e-2, clip=10.0, average=0.0))
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    nats = {score.name: score for score in evaluate(state.average, data)}["bits_per_dim"]
    assert (
        nats.value < np.log2(0.05 * np.sqrt(2 * np.pi * np.e)) + 0.8
    )  # of the noise alone; of the pushes it would be 2.05


def test_what_pulls_is_smoothed_and_what_is_judged_is_not():
    """A parabola is its own smoothing, so nothing changes; noise pulls less, and the nats are still those of what was seen."""
    plain, smooth = (Recurrent(RecurrentConfig(hidden=4, alpha=0.3, smooth=n), Space((15, 2), "real")) for n in (0, 3))
    smooth.load_state_dict(plain.state_dict())
    smooth.reach.fill_(3)
    time = torch.arange(15.0).view(15, 1, 1, 1) / 15
    x = torch.cat([time.square() - time, 0.5 * time], 3)
    torch.testing.assert_close(*(model.learned(x, None, None, 0) for model in (plain, smooth)), rtol=1e-4, atol=1e-4)
    noisy = x + 0.1 * torch.randn(15, 1, 50, 2)
    states, nats = smooth.learned(noisy, None, None, 0)
    pulled = torch.einsum("ts,s...->t...", parabolas(15, 3), noisy)
    assert (pulled - x).square().mean() < 0.6 * (noisy - x).square().mean()
    torch.testing.assert_close(states, smooth.forced(pulled, None, None, smooth.weight(noisy, None, 0)))
    torch.testing.assert_close(nats, smooth.nats(states, noisy, None).sum(0).mean(-1))
    holes = torch.ones_like(x, dtype=torch.bool)
    with pytest.raises(BadInput, match="holes"):
        smooth.train().learned(x, holes, None, 0)
    smooth.eval().learned(x, holes, None, 0)  # held-out examples may have some


def test_the_smoothing_that_is_chosen_is_about_the_one_that_comes_nearest_to_the_truth():
    generator = torch.Generator().manual_seed(0)
    time = torch.arange(3000.0)
    truth = torch.stack([torch.sin(time / 12), torch.cos(time / 17)], 1).view(30, 100, 2)
    noisy = truth + 0.2 * torch.randn(truth.shape, generator=generator)
    errors = {n: (parabolas(100, n) @ noisy - truth)[:, 30:70].square().mean().item() for n in range(2, 25)}
    chosen = smoothing(noisy)
    assert errors[chosen] < 1.1 * min(errors.values())
    assert chosen > smoothing(truth + 0.02 * torch.randn(truth.shape, generator=generator))


def test_counts_are_smoothed_though_most_of_their_variance_is_chance():
    generator = torch.Generator().manual_seed(0)
    rate = (0.4 * torch.sin(torch.arange(3000.0) / 12)).exp().view(30, 100, 1)
    counts = torch.poisson(rate, generator=generator)
    flat = torch.poisson(torch.ones(30, 100, 1), generator=generator)
    assert smoothing(counts) == 0
    assert smoothing(counts, counts.mean((0, 1))) > 5
    assert smoothing(flat, flat.mean((0, 1))) == 0


def test_smoothed_counts_pull_towards_the_log_of_the_rate():
    """The log of a mean of counts, and a half for all of them together, is nearly unbiased; the mean of logs, or a half for each, is not."""
    model = made(41, 2, "count", members=1)
    rate = torch.tensor([0.3, 3.0], dtype=torch.float64)
    x = torch.poisson(rate.expand(41, 1, 20_000, 2))
    pulling = model.seen.linked(model.seen.modality.smoothed(x, parabolas(41, 20).double()))[20].mean((0, 1))
    assert (pulling - rate.log()).abs().max() < 0.05
    half = torch.log(torch.einsum("ts,sabc->tabc", parabolas(41, 20).double(), x).clamp(min=0) + 0.5)[20].mean((0, 1))
    assert (half - rate.log()).abs().max() > 0.5


def test_what_jumps_or_is_moved_by_chance_is_not_smoothed():
    walk = torch.zeros(1, 2000, 1)
    for t in range(1, 2000):
        walk[:, t] = 0.8 * walk[:, t - 1] + torch.randn(1)
    assert smoothing(walk) == 0
    flips = torch.tensor([1.0, -1.0]).repeat(50).view(1, 100, 1) + 0.01 * torch.randn(1, 100, 1)
    assert smoothing(flips) == 0
    data = from_trials("flips", [Trial(flips[0].repeat(10, 1).numpy())], {}, DataConfig(window=20))
    model = Recurrent(RecurrentConfig(hidden=4), data.space)
    model.prepare(data)
    assert model.reach.tolist() == [0]


def test_what_is_clean_is_not_smoothed():
    assert smoothing(torch.sin(torch.arange(4000.0) / 9).view(20, 200, 1)) == 0

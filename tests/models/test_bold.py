"""Recurrent machines seen through the haemodynamic response, as distributions and as what they learn."""

import dataclasses

import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import open_data
from reverie.data.config import DataConfig
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.evaluation import evaluate
from reverie.models.cohort import Cohort, CohortConfig
from reverie.models.recurrent import Recurrent, RecurrentConfig
from reverie.nets.bold import BoldObservation, haemodynamic_response
from reverie.training import State, fabric_for, training

SHORT = (0.2, 0.5, 0.2, 0.1)  # a response that a hand can follow; it peaks one step late
EARLY = (0.6, 0.4)


def made(kernel=SHORT, steps=6, channels=2, linear=False, **settings):
    """A model in float64, seen through a response of our own, away from where it begins."""
    config = dataclasses.replace(RecurrentConfig(hidden=5, alpha=0.3, observation="bold"), **settings)
    model = Recurrent(config, Space((steps, channels), "real", tr=1.0))
    latent = config.latent or channels
    model.seen = BoldObservation(config.members, latent, channels, torch.tensor(kernel), config.nuisance)
    model = model.double().eval()
    for p in model.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    if linear:
        model.cell.W1.data.zero_()
    return model


# as a distribution


def by_hand(model, x_of, drive=None):
    """The means of x_1 … of one member, with everything done anew at every step; x_of(t, mean) gives x_t (N,). `drive` (T, M) is
    added to the states."""
    seen, cell = model.seen, model.cell
    taps, reach, lag = seen.taps, seen.reach, seen.lag
    steps = model.space.shape[0]
    time = torch.arange(steps + taps - 1, dtype=torch.float64)
    own = float(seen.memory) ** (time[:, None] - time).abs()
    mix = torch.zeros(steps, len(time), dtype=torch.float64)
    for t in range(steps):
        for k in range(taps):
            mix[t, t + taps - 1 - k] = seen.kernel[k]
    total, cross = mix @ own @ mix.T, own @ mix.T
    total = total + float(seen.noise) * total.diagonal().mean() * torch.eye(steps)
    R = seen.readout[0]
    K = torch.linalg.pinv(R)
    x = []

    def sources(upto):
        """(E, N) guessed from x_0 … x_{upto}."""
        told = torch.stack(x[: upto + 1]) - seen.bias[0, 0]
        return cross[:, : upto + 1] @ torch.linalg.solve(total[: upto + 1, : upto + 1], told)

    x.append(x_of(0, torch.zeros(model.space.shape[1], dtype=torch.float64)))
    for t in range(1, steps):
        y = sources(min(t - 1, lag))[:taps]
        path = list(y @ K)  # …, z_0
        z = torch.cat([path[-1], path[-1] @ seen.guess[0]])
        for i in range(t):  # from z_i to z_{i + 1}
            if 0 < i <= t - 1 - lag:
                y = sources(i + lag)[taps - 1 + i]
                pulled = z[:reach] + (model.gain[0] * (y - z[:reach] @ R)) @ K
                z = torch.cat([pulled, z[reach:]])
            z = cell.step(z.view(1, 1, -1))[0, 0] + (0 if drive is None else drive[i + 1])
            path.append(z[:reach])
        felt = sum(seen.kernel[k] * path[-1 - k] for k in range(taps))
        x.append(x_of(t, felt @ R + seen.bias[0, 0]))
    return torch.stack(x)


def gaussian(model):
    """Mean and covariance of x under a linear member, which is affine in its standard normal innovations."""
    steps, channels = model.space.shape

    def x_of(noise):
        noise = noise.view(steps, channels)
        scale = model.seen.modality.log_scale.exp()[0, 0]
        return by_hand(model, lambda t, mean: mean + (scale if t else 1) * noise[t]).flatten()

    zero = torch.zeros(steps * channels, dtype=torch.float64)
    slope = torch.autograd.functional.jacobian(x_of, zero)
    return x_of(zero).detach(), slope @ slope.T


@pytest.mark.parametrize("latent", [1, 2, 3])
@pytest.mark.parametrize("kernel", [SHORT, EARLY], ids=["short", "early"])
def test_linear_it_is_a_gaussian(kernel, latent):
    model = made(kernel, linear=True, latent=latent, steps=8)
    law = torch.distributions.MultivariateNormal(*gaussian(model))
    x = torch.randn(4, 8, 2, dtype=torch.float64)
    torch.testing.assert_close(model.surprise(x).value, -law.log_prob(x.flatten(1)), rtol=1e-7, atol=1e-7)
    assert (model.surprise(x).error == 0).all()
    nats = model._walk(*model.by_time(x, torch.ones_like(x) > 0), 3, 0.0)
    torch.testing.assert_close(-nats[1], model.surprise(x).value)  # the particles walk the same way


@pytest.mark.parametrize("settings", [{}, {"cell": "gru"}, {"cell": "almost_linear", "hidden": 1}], ids=str)
def test_not_linear_it_foretells_as_said(settings):
    model = made(steps=9, latent=3, inputs=1, **settings)
    x, acting = torch.randn(1, 9, 2, dtype=torch.float64), torch.randn(1, 9, 1, dtype=torch.float64)
    for u in (acting, torch.zeros_like(acting)):
        wanted = []
        by_hand(model, lambda t, mean, wanted=wanted: (wanted.append(mean), x[0, t])[1], u[0] @ model.C[0])
        weight = model.gain.view(1, -1, 1, 1).expand(9, -1, -1, -1)
        told, _, inputs = model.by_time(x, None, u)
        found = model.foretold(told, None, inputs, weight).mean[:, 0, 0]
        torch.testing.assert_close(found, torch.stack(wanted[1:]))
        walked = model._walk(*model.by_time(x, torch.ones_like(x) > 0, u), 2, 0.0)[1]
        torch.testing.assert_close(-walked, model.surprise(x, inputs=u).value)  # the particles walk the same way
    torch.testing.assert_close(model.foresee(x, 1, u)[0, 0], found)
    ahead = model.foresee(x, 3, acting)[0, 0, 2]  # at the third step, of the sixth, under no inputs after the third
    late = torch.cat([acting[:, :3], torch.zeros_like(acting[:, 3:])], 1)
    torch.testing.assert_close(ahead, model.foresee(x, 3, late)[0, 0, 2])
    assert not torch.allclose(ahead, model.foresee(x, 3, torch.zeros_like(acting))[0, 0, 2])


def test_samples_have_the_moments_and_forecasts_condition():
    model = made(steps=5, linear=True)
    mean, covariance = gaussian(model)
    x = model.sample(20_000).flatten(1)
    assert (x.mean(0) - mean).abs().max() < 0.05 * covariance.diagonal().sqrt().max()
    assert (x.T.cov() - covariance).abs().max() < 0.06 * covariance.abs().max()
    seen = torch.randn(2, 3, 2, dtype=torch.float64)
    along = covariance[6:, :6] @ torch.linalg.inv(covariance[:6, :6])
    wanted = mean[6:] + (seen.flatten(1) - mean[:6]) @ along.T
    draws = model.forecast(seen, 2, 4000)
    assert (draws.flatten(2).mean(0) - wanted).abs().max() < 0.1 * covariance.diagonal().sqrt().max()


def test_holes_are_integrated_out_and_filled():
    model = made(steps=5, linear=True)
    mean, covariance = gaussian(model)
    x = torch.randn(3, 5, 2, dtype=torch.float64)
    observed = torch.ones(5, 2, dtype=torch.bool)
    observed[2] = False
    seen = observed.flatten()
    holed = torch.where(observed, x, torch.nan)
    law = torch.distributions.MultivariateNormal(mean[seen], covariance[seen][:, seen])
    exact = -law.log_prob(x.flatten(1)[:, seen])
    found = torch.stack([model.surprise(holed, observed.expand(3, -1, -1)).value for _ in range(100)])
    assert ((-found).exp().mean(0) / (-exact).exp() - 1).abs().max() < 0.15
    along = covariance[~seen][:, seen] @ torch.linalg.inv(covariance[seen][:, seen])
    wanted = mean[~seen] + (x.flatten(1)[:, seen] - mean[seen]) @ along.T
    left = (covariance[~seen][:, ~seen] - along @ covariance[seen][:, ~seen]).diagonal()
    draws = model.repair(holed, observed.expand(3, -1, -1), 4000)
    assert torch.equal(draws[:, :, observed], x[:, observed].expand(4000, -1, -1))
    assert (draws.flatten(2)[..., ~seen].mean(0) - wanted).abs().max() < 0.15 * left.sqrt().max()


def test_its_density_has_mass_one():
    model = made(steps=3, channels=1, members=2)
    grid = torch.linspace(-9, 9, 70, dtype=torch.float64)
    every = torch.stack(torch.meshgrid(grid, grid, grid, indexing="ij"), -1).view(-1, 3, 1)
    mass = (-model.surprise(every).value).exp().sum() * (grid[1] - grid[0]) ** 3
    assert mass.item() == pytest.approx(1, abs=1e-4)


def test_a_response_at_once_is_none():
    """A single 1: the plain affine Gaussian observation, in everything that it does."""
    mine = made((1.0,), members=2, latent=3)
    plain = Recurrent(dataclasses.replace(mine.config, observation="gaussian"), mine.space).double().eval()
    plain.load_state_dict({k: v for k, v in mine.state_dict().items() if k in plain.state_dict()})
    x = torch.randn(4, 6, 2, dtype=torch.float64)
    for a, b in zip(mine.named_parameters(), plain.named_parameters(), strict=True):
        assert a[0] == b[0]
    one, other = (next(iter(model.train().phases(Batch(x), 0))) for model in (mine, plain))
    torch.testing.assert_close(one.report, other.report)
    for a, b in zip(one.gradients, other.gradients, strict=True):
        torch.testing.assert_close(a, b)
    observed = torch.rand(4, 6, 2) < 0.7
    drawn = []
    for model in (mine.eval(), plain.eval()):
        torch.manual_seed(0)
        drawn.append(
            (
                model.surprise_by_step(x), model.sample(5), model.foresee(x, 2), model.free_run(7, x[:, 0]), model.free_run(3), model.free_run(9, x[:, 0], process_noise=True),
                model.repair(x, observed, 3), model.forecast(x, 2, 3), model.surprise(x, observed).value,
            )
        )  # fmt: skip
    torch.testing.assert_close(*drawn)


def test_a_free_run_is_the_map_blurred():
    model, start = made(latent=3, members=2), torch.randn(3, 2, dtype=torch.float64)
    x = model.free_run(5, start)
    z = model.seen.start(start.unsqueeze(0), None)
    path = [z] * 4
    for t in range(5):
        path.append(model.cell.step(path[-1]))
        felt = sum(model.seen.kernel[k] * path[-1 - k] for k in range(4))
        torch.testing.assert_close(x[:, :, t], model.seen(felt).mean)


def test_holes_are_learned_around():
    model = made(steps=9).train()
    x, observed = torch.randn(4, 9, 2, dtype=torch.float64), torch.rand(4, 9, 2) < 0.7
    found = []
    for behind in (0.0, torch.nan):
        (phase,) = model.phases(Batch(torch.where(observed, x, behind), observed), 0)
        found.append([phase.report, *phase.gradients])
    torch.testing.assert_close(*found)
    assert all(part.isfinite().all() for part in found[0])
    assert model.foresee(torch.where(observed, x, torch.nan), 2).isfinite().all()


# what disturbs


def test_what_disturbs_only_shifts_what_is_seen():
    model = made(inputs=3, nuisance=2, linear=True)
    assert model.C.shape[1] == 1
    x, acting = torch.randn(4, 6, 2, dtype=torch.float64), torch.randn(4, 6, 3, dtype=torch.float64)
    shifted, quiet = x + acting[..., 1:] @ model.seen.J[0].detach(), acting.clone()
    quiet[..., 1:] = 0
    torch.testing.assert_close(model.surprise(shifted, inputs=acting).value, model.surprise(x, inputs=quiet).value)
    torch.manual_seed(0)
    a = model.sample(4, inputs=acting)
    torch.manual_seed(0)
    torch.testing.assert_close(a - model.sample(4, inputs=quiet), shifted - x)
    observed = torch.rand(4, 6, 2) < 0.7
    draws = model.repair(x, observed, 2, inputs=acting)
    assert torch.equal(draws[:, observed], x[observed].expand(2, -1))
    torch.testing.assert_close(model.foresee(shifted, 2, acting), model.foresee(x, 2, quiet))
    with pytest.raises(BadInput, match="trained with inputs"):
        model.surprise(x)
    with pytest.raises(BadInput, match="2 nuisance regressors"):
        Recurrent(RecurrentConfig(inputs=1, nuisance=2, observation="bold"), Space((9, 2), "real", tr=1.0))
    with pytest.raises(BadInput, match="bold"):
        Recurrent(RecurrentConfig(inputs=2, nuisance=2), Space((9, 2), "real"))


def turning(steps=1500, period=20.0, noise=0.1, seed=0):
    """A state that turns, pushed by noise (T, 2), and what a scanner sees of it at TR 1 s (T - 32, 3)."""
    random = np.random.default_rng(seed)
    angle = 2 * np.pi / period
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    z = np.zeros((steps, 2))
    z[0] = 1, 0
    for t in range(1, steps):
        z[t] = turn @ z[t - 1]
        z[t] += 0.2 * (1 / np.linalg.norm(z[t]) - 1) * z[t] + noise * random.standard_normal(2)
    h = haemodynamic_response(1.0).numpy()
    blurred = np.stack([np.convolve(z[:, i], h)[32:steps] for i in range(2)], 1)
    x = blurred @ random.standard_normal((2, 3))
    return z[32:], x + 0.2 * x.std() * random.standard_normal(x.shape)


def learned(data, steps, **settings):
    config = RecurrentConfig(**{"latent": 2, "hidden": 10, "alpha": 0.2} | settings)
    torch.manual_seed(0)
    state = State(
        Recurrent(config, data.space), TrainingConfig(steps=steps, batch=16, rate=1e-2, clip=10.0, average=0.0)
    )
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    return state.average


def test_what_disturbs_is_found_in_made_data():
    _, x = turning(1000)
    random = np.random.default_rng(1)
    r = random.standard_normal((len(x), 2)).cumsum(0)
    r = ((r - r.mean(0)) / r.std(0)).astype(np.float32)
    J = np.array([[1.0, -0.5, 0.3], [0.0, 0.8, -1.0]])
    data = from_trials("moved", [Trial((x + r @ J).astype(np.float32), r)], {}, DataConfig(window=60, tr=1.0))
    model = learned(data, 200, observation="bold", inputs=2, nuisance=2)
    found = model.seen.J[0].detach().numpy() * np.array(data.codec.scale)
    assert np.abs(found - J).max() < 0.2
    scores = {score.name: score for score in evaluate(model, data)}
    assert {"nats", "d_stsp", "pe_20"} <= set(scores)  # what is only disturbed runs freely


def test_a_blurred_system_is_found_behind_its_response():
    """The states that a machine follows are, up to an affine map, those that turned; seen without the response they are late by
    some seconds and have lost what is fast."""
    z, x = turning()
    data = from_trials("turning", [Trial(x.astype(np.float32))], {}, DataConfig(window=60, tr=1.0))
    told, steps = data.codec.to_model(torch.from_numpy(x)).float(), len(x)
    off = {}
    for name in ("bold", "gaussian"):
        model = learned(data, 400, observation=name, smooth=-1)
        assert not model.diverged.any()
        run = model.free_run(1000)[0, 0]
        power = torch.fft.rfft(run - run.mean(0), dim=0).abs().square().sum(1)
        assert 1000 / int(power.argmax()) == pytest.approx(20, abs=1.5)
        seen, _, _ = model.by_time(told.unsqueeze(0))
        with torch.no_grad():
            states = model.learned(seen, None, None, 0)[0][:, 0, 0, :2].double().numpy()
        design = np.concatenate([states, np.ones((steps, 1))], 1)[50:-50]
        true = z[50:-50]
        left = true - design @ np.linalg.lstsq(design, true, rcond=None)[0]
        off[name] = (left**2).mean() / true.var()
    assert off["bold"] < 0.7 * off["gaussian"], off


def test_a_cohort_sees_through_it_too():
    random = np.random.default_rng(0)
    trials = [Trial(random.standard_normal((60, 2)).astype(np.float32), None, who) for who in "ab"]
    data = from_trials("two", trials, {}, DataConfig(window=10, split="time", tr=2.0))
    config = CohortConfig(classes=2, hidden=3, members=2, observation="bold")
    model = Cohort(config, data.space)
    model.prepare(data)
    (phase,) = model.train().phases(data.train.batch(8), 0)
    assert np.isfinite(float(phase.report))
    model.solve(data, TrainingConfig())
    assert model.surprise(data.test.x(2), given=data.test.labels[:2]).value.isfinite().all()


# the seconds between two volumes


def test_the_time_between_volumes_comes_from_the_data():
    assert open_data("fmri").space.tr == 1.89
    assert Recurrent(RecurrentConfig(observation="bold"), open_data("fmri").space).seen.taps == 17
    with pytest.raises(BadInput, match=r"--data\.tr"):
        Recurrent(RecurrentConfig(observation="bold"), open_data("lorenz").space)
    space = Space((9, 2), "real", tr=0.72)
    assert Space.from_json(space.to_json()).tr == 0.72

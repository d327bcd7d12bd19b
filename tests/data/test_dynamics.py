import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.data.dynamics import SYSTEMS, Flow, bursting_neuron, lorenz, lorenz96, rossler, simulate
from reverie.maths.chaos import kaplan_yorke, lyapunov_spectrum


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_jacobian_is_the_derivative_of_the_field(name):
    system = SYSTEMS[name]()
    random = np.random.default_rng(0)
    x = np.array(system.centre) + np.array(system.spread) * random.standard_normal((5, len(system.centre)))
    width = 1e-5 * np.maximum(np.abs(np.array(system.centre)), 0.1)
    for i, step in enumerate(np.diag(width)):
        slope = (system.field(x + step) - system.field(x - step)) / (2 * width[i])
        np.testing.assert_allclose(system.jacobian(x)[..., i], slope, rtol=1e-5, atol=1e-6)
    batch = np.stack([x, 2 * x])
    np.testing.assert_array_equal(system.field(batch)[1], system.field(2 * x))
    assert len(system.channels) == len(system.centre) == len(system.spread)


def test_the_fields_are_the_published_ones():
    x = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(lorenz().field(x), [10, 28 - 3 - 2, 2 - 8])
    np.testing.assert_allclose(rossler().field(x), [-5, 1.4, 0.2 + 3 * (1 - 5.7)])
    ring = np.array([1.0, 2.0, 4.0, 8.0])
    # Places are on a ring: (x2 - x_{-1}) x_0 with x_0 = x4, x_{-1} = x3.
    np.testing.assert_allclose(lorenz96(4).field(ring)[0], (2 - 4) * 8 - 1 + 8)
    np.testing.assert_allclose(lorenz96(6).field(np.full(6, 8.0)), 0, atol=1e-12)


def test_the_flow_conserves_what_the_equations_do_and_has_their_derivative():
    flow = Flow(lorenz(), 0.02, 2)
    z = torch.randn(4, 3, dtype=torch.float64) * 5
    jacobian = flow.jacobian(z)
    for i in range(3):
        push = torch.zeros(3, dtype=torch.float64)
        push[i] = 1e-5
        slope = (flow.step(z + push) - flow.step(z - push)) / 2e-5
        torch.testing.assert_close(jacobian[..., i], slope, rtol=1e-6, atol=1e-7)
    # The divergence of Lorenz's field is a constant, so volumes shrink by exp of it times dt.
    torch.testing.assert_close(
        jacobian.det().log(), torch.full((4,), -(10 + 1 + 8 / 3) * 0.02, dtype=torch.float64), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize(
    ("name", "apart", "dt", "parts", "count", "steps", "warm_up"),
    [("lorenz", 1.0, 0.1, 10, 200, 400, 50), ("rossler", 3.0, 0.6, 10, 500, 500, 100)],
)
def test_known_lyapunov_exponents_within_two_percent(name, apart, dt, parts, count, steps, warm_up):
    system = SYSTEMS[name]()
    starts = torch.from_numpy(simulate(system, count, dt=apart)[0])
    flow = Flow(system, dt, parts)
    found = lyapunov_spectrum(flow.step, flow.jacobian, starts, steps, warm_up, count=1, every=5, dt=dt)
    assert found.mean().item() == pytest.approx(system.lyapunov_max, rel=0.02)


def test_the_whole_lorenz_spectrum():
    starts = torch.from_numpy(simulate(lorenz(), 50, dt=1.0)[0])
    flow = Flow(lorenz(), 0.1, 10)
    found = lyapunov_spectrum(flow.step, flow.jacobian, starts, 300, warm_up=50, dt=0.1).mean(0)
    assert abs(found[1]) < 0.02  # along the orbit
    assert found.sum().item() == pytest.approx(-(10 + 1 + 8 / 3), rel=1e-3)  # the divergence of the field
    assert kaplan_yorke(found).item() == pytest.approx(2.06, abs=0.01)


def test_recordings_are_the_same_again_and_independent_of_how_many_there_are():
    three, two = (simulate(lorenz(), 50, starts=n, seed=3) for n in (3, 2))
    np.testing.assert_array_equal(three[:2], two)
    assert np.abs(three[0] - three[1]).max() > 1
    assert np.abs(three - simulate(lorenz(), 50, starts=3, seed=4)).max() > 1


def test_a_recording_follows_the_field():
    x = simulate(rossler(), 400, dt=0.001)[0]
    slope = (x[2:] - x[:-2]) / 0.002
    np.testing.assert_allclose(slope, rossler().field(x[1:-1]), rtol=1e-3, atol=1e-3)


def test_noise_is_a_share_of_each_channels_own():
    clean, noisy = (simulate(lorenz(), 5000, seed=1, noise=n)[0] for n in (0.0, 0.05))
    np.testing.assert_allclose((noisy - clean).std(0) / clean.std(0), 0.05, rtol=0.05)


def test_the_transient_is_dropped():
    """Lorenz's attractor lies in a known box, and starts at 8 standard deviations of it do not."""
    far = lorenz()._replace(spread=(200.0, 200.0, 200.0))
    x = simulate(far, 500, starts=5)
    assert np.abs(x[..., 0]).max() < 22
    assert (x[..., 2] > 0).all()
    assert (x[..., 2] < 55).all()


def test_the_neuron_bursts_and_with_more_nmda_fires_single_spikes():
    def intervals(g):
        v = simulate(bursting_neuron(g), 2000)[0, :, 0]
        assert (v > -100).all()
        assert (v < 20).all()
        return 0.5 * np.diff(np.flatnonzero((v[1:] > -20) & (v[:-1] <= -20)))

    bursts, single = intervals(10.0), intervals(11.0)
    assert bursts.max() > 60  # silence between bursts
    assert np.median(bursts) < 10
    assert single.max() < 2 * single.min()


def test_what_cannot_be_made_is_refused():
    with pytest.raises(BadInput, match="0 steps"):
        simulate(lorenz(), 0)
    with pytest.raises(BadInput, match="noise -1"):
        simulate(lorenz(), 5, noise=-1.0)
    with pytest.raises(BadInput, match="at least 4"):
        lorenz96(3)
    with pytest.raises(BadInput, match="rossler runs away"):
        simulate(rossler(c=-3.0), 100)

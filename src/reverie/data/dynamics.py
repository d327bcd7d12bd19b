"""Systems that move by known equations, so that what a model learned of them can be told exactly."""

import warnings
from collections.abc import Callable
from typing import NamedTuple, no_type_check

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.integrate import odeint
from torch import Tensor

from reverie.core.errors import BadInput

Array = NDArray[np.float64]


class System(NamedTuple):
    """dx/dt = field(x), and all that is needed to draw recordings from it.

    >>> simulate(lorenz(), steps=5, starts=2).shape
    (2, 5, 3)
    """

    name: str
    channels: tuple[str, ...]
    field: Callable[[Array], Array]  # x (..., N) to dx/dt (..., N)
    jacobian: Callable[[Array], Array]  # x (..., N) to d field / dx (..., N, N)
    centre: tuple[float, ...]  # random starts are normal around it,
    spread: tuple[float, ...]  # with this standard deviation,
    transient: float  # and this much time to twice as much passes before recording starts
    dt: float  # between two recorded steps
    unit: str  # of time
    lyapunov_max: float | None  # nats per unit of time, where the literature states it


# Fields are called a million times in a test, too often for their types to be looked at each time.


@no_type_check
def lorenz(sigma: float = 10.0, rho: float = 28.0, beta: float = 8 / 3) -> System:
    """x' = σ(y - x), y' = x(ρ - z) - y, z' = xy - βz (Lorenz 1963). λmax is 0.9056 (Viswanath 2004)."""

    def field(s: Array) -> Array:
        x, y, z = s.T
        return np.array([sigma * (y - x), x * (rho - z) - y, x * y - beta * z]).T

    def jacobian(s: Array) -> Array:
        x, y, z = s[..., 0], s[..., 1], s[..., 2]
        return _matrix(s, [[-sigma, sigma, 0], [rho - z, -1, -x], [y, x, -beta]])

    known = 0.9056 if (sigma, rho, beta) == (10.0, 28.0, 8 / 3) else None
    return System("lorenz", ("x", "y", "z"), field, jacobian, (0, 0, 25), (8, 8, 8), 50.0, 0.01, "time", known)


@no_type_check
def rossler(a: float = 0.2, b: float = 0.2, c: float = 5.7) -> System:
    """x' = -y - z, y' = x + ay, z' = b + z(x - c) (Rössler 1976). λmax is 0.0714 (Sprott 2003)."""

    def field(s: Array) -> Array:
        x, y, z = s.T
        return np.array([-y - z, x + a * y, b + z * (x - c)]).T

    def jacobian(s: Array) -> Array:
        return _matrix(s, [[0, -1, -1], [1, a, 0], [s[..., 2], 0, s[..., 0] - c]])

    known = 0.0714 if (a, b, c) == (0.2, 0.2, 5.7) else None
    # Far outside its attractor the system runs away.
    return System("rossler", ("x", "y", "z"), field, jacobian, (0, -5, 0), (1, 1, 0), 250.0, 0.1, "time", known)


@no_type_check
def lorenz96(size: int = 10, force: float = 8.0) -> System:
    """x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F on a ring (Lorenz 1996)."""
    if size < 4:
        raise BadInput(f"lorenz96 needs a ring of at least 4 places, not {size}")

    place = np.arange(size)
    after, before, second = (place + 1) % size, (place - 1) % size, (place - 2) % size

    def field(s: Array) -> Array:
        return (s[..., after] - s[..., second]) * s[..., before] - s + force

    def jacobian(s: Array) -> Array:
        out = np.zeros((*s.shape, size))
        out[..., place, after] = s[..., before]
        out[..., place, second] = -s[..., before]
        out[..., place, before] = s[..., after] - s[..., second]
        out[..., place, place] = -1
        return out

    names = tuple(f"x{i + 1}" for i in range(size))
    centre, spread = (force,) * size, (0.5,) * size
    return System("lorenz96", names, field, jacobian, centre, spread, 50.0, 0.04, "time", None)


@no_type_check
def bursting_neuron(g_nmda: float = 10.2) -> System:
    """A neuron with sodium, potassium, slow potassium and NMDA currents: voltage V in mV, gates n and h; ms.

    -C V' = g_L (V - E_L) + g_Na m(V) (V - E_Na) + g_K n (V - E_K) + g_M h (V - E_K) + g_NMDA s(V) (V - E_NMDA),
    τ_n n' = n(V) - n and τ_h h' = h(V) - h, with logistic m(V), n(V), h(V) and s(V) = 1 / (1 + 0.33 exp(-V / 16))
    (Durstewitz 2009; the three equations and their parameters as in Schmidt, Koppe, Monfared, Beutelspacher & Durstewitz
    2021, arXiv 1910.03471). It fires in bursts up to g_NMDA of about 10.2 mS, and in single spikes above. Just below, both go on where they
    began; the starts here lead to bursts.
    """
    capacity, tau = 6.0, np.array([1.0, 200.0])  # µF; ms of n and h
    leak, sodium, potassium, slow = 8.0, 20.0, 10.0, 25.0  # mS
    e_leak, e_sodium, e_potassium, e_nmda = -80.0, 60.0, -90.0, 0.0  # mV

    def gate(v: Array, half: float, width: float) -> tuple[Array, Array]:
        """How open it comes to be, and the derivative of that."""
        opened = 1 / (1 + np.exp((half - v) / width))
        return opened, opened * (1 - opened) / width

    def nmda(v: Array) -> tuple[Array, Array]:
        block = 0.33 * np.exp(-0.0625 * v)
        return 1 / (1 + block), 0.0625 * block / (1 + block) ** 2

    def field(s: Array) -> Array:
        v, n, h = s.T
        current = leak * (v - e_leak) + sodium * gate(v, -20, 15)[0] * (v - e_sodium)
        current = current + (potassium * n + slow * h) * (v - e_potassium) + g_nmda * nmda(v)[0] * (v - e_nmda)
        return np.array([-current / capacity, (gate(v, -25, 5)[0] - n) / tau[0], (gate(v, -15, 5)[0] - h) / tau[1]]).T

    def jacobian(s: Array) -> Array:
        v, n, h = s[..., 0], s[..., 1], s[..., 2]
        (m, dm), (block, dblock) = gate(v, -20, 15), nmda(v)
        own = leak + sodium * (m + dm * (v - e_sodium)) + potassium * n + slow * h
        own = own + g_nmda * (block + dblock * (v - e_nmda))
        drive = -(v - e_potassium) / capacity
        first = [-own / capacity, potassium * drive, slow * drive]
        gates = [[gate(v, -25, 5)[1] / tau[0], -1 / tau[0], 0], [gate(v, -15, 5)[1] / tau[1], 0, -1 / tau[1]]]
        return _matrix(s, [first, *gates])

    return System(
        "bursting-neuron", ("V", "n", "h"), field, jacobian,
        (-65, 0, 0.08), (5, 0, 0.005), 1000.0, 0.5, "ms", None,
    )  # fmt: skip


@no_type_check
def _matrix(s: Array, rows: list[list[Array | float]]) -> Array:
    """Entries, each (...) or one number, as matrices (..., N, N)."""
    out = np.zeros((*s.shape, len(rows)))
    for i, row in enumerate(rows):
        for j, entry in enumerate(row):
            out[..., i, j] = entry
    return out


SYSTEMS: dict[str, Callable[[], System]] = {
    "lorenz": lorenz,
    "rossler": rossler,
    "lorenz96": lorenz96,
    "bursting-neuron": bursting_neuron,
}
TOLERANCE = 1e-9  # of a step of the solver, relative and absolute


def simulate(
    system: System, steps: int, dt: float | None = None, starts: int = 1, seed: int = 0, noise: float = 0.0
) -> Float[np.ndarray, "starts steps channels"]:
    """Recordings, a step every `dt`, each from a random start of its own once the system has settled.

    `noise`: standard deviation of what is added to each channel, as a share of that channel's own. A start is the
    same however many others there are.
    """
    if steps < 1 or starts < 1 or noise < 0:
        raise BadInput(f"{system.name} cannot make {starts} series of {steps} steps with noise {noise}")
    dt = system.dt if dt is None else dt
    randoms = [np.random.default_rng([seed, i]) for i in range(starts)]
    series = np.stack([_solved(system, random, steps, dt) for random in randoms])
    sigma = series.std((0, 1))
    grain = np.stack([random.standard_normal(series.shape[1:]) for random in randoms])
    return series + noise * sigma * grain


def _solved(system: System, random: np.random.Generator, steps: int, dt: float) -> Array:
    """By LSODA, whose loop is compiled; it turns to a method for stiff equations where they are."""
    start = np.array(system.centre) + np.array(system.spread) * random.standard_normal(len(system.centre))
    settled = system.transient * (1 + random.random())  # at no particular phase of what is periodic
    times = np.concatenate([[0.0], settled + dt * np.arange(steps)])
    with warnings.catch_warnings(action="ignore"):  # what it would say is in its messages
        series, told = odeint(
            lambda x, _: system.field(x), start, times, rtol=TOLERANCE, atol=TOLERANCE, mxstep=100_000, full_output=True
        )
    if told["message"] != "Integration successful." or not np.isfinite(series).all():
        raise BadInput(f"{system.name} runs away with these parameters; choose others")
    return series[1:]


class Flow(NamedTuple):
    """The map over a time dt that the equations make, by `parts` steps of the classical Runge-Kutta rule, and its
    exact derivative: for Lyapunov exponents, many trajectories at a time.

    >>> flow = Flow(lorenz(), 0.01)
    >>> flow.jacobian(torch.ones(7, 3, dtype=torch.float64)).shape
    torch.Size([7, 3, 3])
    """

    system: System
    dt: float
    parts: int = 1

    def step(self, z: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N"]:
        """The states a time dt later."""
        x = z.numpy()
        for _ in range(self.parts):
            x = self._rule(x)[0]
        return torch.from_numpy(x)

    def jacobian(self, z: Float[Tensor, "*batch N"]) -> Float[Tensor, "*batch N N"]:
        """Their derivatives by z."""
        x, total = z.numpy(), np.eye(z.shape[-1])
        for _ in range(self.parts):
            x, slopes = self._rule(x, tangent=True)
            total = slopes @ total
        return torch.from_numpy(np.ascontiguousarray(total))

    def _rule(self, x: Array, tangent: bool = False) -> tuple[Array, Array]:
        h = self.dt / self.parts
        one = np.eye(x.shape[-1])
        move: Array = np.zeros_like(x)
        slope: Array = np.zeros_like(one)
        moves, slopes = [], []
        for share in (0.0, 0.5, 0.5, 1.0):
            at = x + share * h * move
            move = self.system.field(at)
            moves.append(move)
            if tangent:
                slope = self.system.jacobian(at) @ (one + share * h * slope)
                slopes.append(slope)
        after = x + h / 6 * (moves[0] + 2 * moves[1] + 2 * moves[2] + moves[3])
        return after, one + h / 6 * (slopes[0] + 2 * slopes[1] + 2 * slopes[2] + slopes[3]) if tangent else one

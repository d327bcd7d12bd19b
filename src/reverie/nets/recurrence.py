"""The loop over time, where all the work of a recurrent model is: forwards, and backwards for its gradient.

Written out by hand, because a graph of every step costs several times the arithmetic. All arrays of states are
(T, S, B, M): a step, for all members and examples, lies together in memory.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.shallow import Shallow

try:
    from reverie.nets import tiles
except ImportError:  # without numba the loops below do the same
    tiles = None  # type: ignore[assignment]

LARGE = 4_000_000  # S B M L above which products of matrices on several threads are faster than compiled loops on fewer
CHUNK = 2**18  # numbers of hidden activity that a backward sweep holds at a time


class Forcing(NamedTuple):
    """What was seen pulls the state towards itself before each step: z + (w (y - z R)) K.

    Without R and K the first N units of the state are what is seen, and are moved a share w of the way: generalised teacher
    forcing with alpha = w (Hess et al. 2023); w = 1 at every tau-th step, and else 0, is sparse teacher forcing (Mikhaeil,
    Monfared & Durstewitz 2022, arXiv 2110.07238). No gradient reaches w, R or K; one reaches y, where it asks for it.
    """

    target: Float[Tensor, "T members B N"]  # y, what was seen at each step; members may be 1
    weight: Float[Tensor, "T members batch channels"]  # w, 0 where nothing was seen; each but T may be 1
    readout: Float[Tensor, "S R N"] | None = None  # of the first R units
    gain: Float[Tensor, "S N R"] | None = None  # K

    @property
    def reach(self) -> int:
        """How many units, the first ones, it may move."""
        return self.target.shape[-1] if self.readout is None else self.readout.shape[1]

    def pull(self, z: Tensor, t: int, out: Tensor) -> None:
        """Writes the state z (S, B, M) of step t, pulled, to `out`."""
        n = self.reach
        if self.readout is None:
            torch.lerp(z[..., :n], self.target[t], self.weight[t], out=out[..., :n])
        else:
            out[..., :n] = self._corrected(z[..., :n], t)
        if n < z.shape[-1]:
            out[..., n:] = z[..., n:]

    def pulled(self, z: Tensor, t: int) -> Tensor:
        """The same as a new tensor, for autograd."""
        return torch.cat([self._corrected(z[..., : self.reach], t), z[..., self.reach :]], -1)

    def _corrected(self, z: Tensor, t: int) -> Tensor:
        if self.readout is None or self.gain is None:
            return torch.lerp(z, self.target[t], self.weight[t])
        return torch.baddbmm(z, (self.target[t] - z @ self.readout) * self.weight[t], self.gain)

    def pull_back(self, gradient: Tensor, t: int, kept: Tensor) -> None:
        """From the gradient of the state of step t after it was pulled to that before, in place; `kept` is 1 - w."""
        moved = gradient[..., : self.reach]
        if self.readout is None or self.gain is None:
            moved *= kept[t]
        else:
            moved -= ((moved @ self.gain.mT) * self.weight[t]) @ self.readout.mT

    def of_target(self, gradient: Tensor) -> Tensor:
        """From the gradients of pulled states (T, S, B, M) to those of y, of its shape."""
        weight = self.weight[: len(gradient)]
        moved = gradient[..., : self.reach]
        found = weight * (moved if self.gain is None else moved @ self.gain.mT)
        return found.sum_to_size(len(gradient), *self.target.shape[1:])


class Swept(NamedTuple):
    """An orbit."""

    states: Float[Tensor, "T S B M"]  # after each step
    forced: Float[Tensor, "T S B more"]  # before it, after they were pulled; and a 1 beside them


class Gradients(NamedTuple):
    """Of a loss, for everything that a sweep was made of."""

    weights: Shallow
    start: Float[Tensor, "S B M"]
    steps: Float[Tensor, "T S B M"]  # of the state after each step, all later effects included; that of the drive


def forward_sweep(
    weights: Shallow,
    start: Float[Tensor, "S B M"],
    steps: int,
    forcing: Forcing | None = None,
    drive: Float[Tensor, "T S B M"] | None = None,
) -> Swept:
    """z_{t+1} = F(pulled z_t) + drive_t from z_0 = `start`, for t = 0 … steps - 1."""
    drive = lasting(drive, steps, start)
    if _compiled(weights, start):
        return Swept(*tiles.forward(weights, start, steps, forcing, drive))
    size = start.shape[-1]
    inner, outer, across = _with_biases(weights)
    states = start.new_empty(steps, *start.shape)
    forced = start.new_ones(steps, *start.shape[:2], size + 1)
    hidden = start.new_empty(*start.shape[:2], inner.shape[-1])
    z = start
    # Views are taken before the loop: a look-up costs as much as a small product.
    for t, (out, row, pulled) in enumerate(zip(states.unbind(0), forced.unbind(0), forced[..., :size].unbind(0), strict=True)):  # fmt: skip
        if forcing is None:
            pulled.copy_(z)
        else:
            forcing.pull(z, t, pulled)
        torch.bmm(row, inner, out=hidden).relu_()
        torch.bmm(row, across, out=out)
        z = out.baddbmm_(hidden, outer)
        if drive is not None:
            z += drive[t]
    return Swept(states, forced)


def lasting(drive: Tensor | None, steps: int, start: Float[Tensor, "S B M"]) -> Float[Tensor, "T S B M"] | None:
    """What drives the first `steps` steps of every state of `start`. Raises BadInput where it ends before them: compiled loops would read on."""
    if drive is None:
        return None
    if len(drive) < steps:
        raise BadInput(f"inputs of {len(drive)} steps cannot drive {steps}; give those of every step")
    return drive[:steps].expand(steps, *start.shape)


def _with_biases(weights: Shallow) -> tuple[Tensor, Tensor, Tensor]:
    """W2 | h2 (S, M + 1, L), W1 (S, L, M) and A | h1 (S, M + 1, M), as factors on the right: a bias is the weight of a 1
    beside the state, which is cheaper than to add it."""
    inner = torch.cat([weights.W2.mT, weights.h2.unsqueeze(1)], 1)
    across = torch.cat([weights.A.mT, weights.h1.unsqueeze(1)], 1)
    return inner, weights.W1.mT.contiguous(), across


def adjoint_sweep(
    weights: Shallow,
    forced: Float[Tensor, "T S B more"],
    gradient: Float[Tensor, "T S B M"],
    forcing: Forcing | None = None,
) -> Gradients:
    """The gradients of a loss whose derivative for `states` is `gradient`: one sweep back in time, and one product a weight.

    The hidden activity is computed again, some steps at a time: it need not be held from the forward sweep, and what
    is held stays in the cache.
    """
    if _compiled(weights, forced[0]):
        return Gradients(*tiles.adjoint(weights, forced, gradient, forcing))
    steps, members, batch, size = forced.shape
    size, units = size - 1, weights.W2.shape[1]
    A, W1, W2 = weights.A, weights.W1, weights.W2
    inner = _with_biases(weights)[0]
    kept = None if forcing is None else 1 - forcing.weight
    of_inner = torch.zeros_like(inner)
    of_across = forced.new_zeros(members, size, size + 1)
    of_outer = torch.zeros_like(W1)
    total = gradient.clone(memory_format=torch.contiguous_format)
    at_once = max(1, min(steps, CHUNK // max(1, members * batch * units)))
    passed = forced.new_empty(members, batch, units)
    carried = torch.zeros_like(total[0])
    for stop in range(steps, 0, -at_once):
        first = max(stop - at_once, 0)
        count = stop - first
        states = forced[first:stop].transpose(0, 1).reshape(members, count * batch, -1)
        active = torch.bmm(states, inner).relu_()
        slope = torch.empty_like(active)
        on, off = (part.unflatten(1, (count, batch)).unbind(1) for part in (active, slope))
        for i in range(count - 1, -1, -1):
            later = total[first + i].add_(carried)
            torch.bmm(later, W1, out=passed)
            torch.ops.aten.threshold_backward.grad_input(passed, on[i], 0, grad_input=off[i])
            torch.bmm(later, A, out=carried).baddbmm_(off[i], W2)
            if forcing is not None and kept is not None:
                forcing.pull_back(carried, first + i, kept)
        later = total[first:stop].transpose(0, 1).reshape(members, count * batch, -1)
        of_across.baddbmm_(later.mT, states)
        of_outer.baddbmm_(later.mT, active)
        of_inner.baddbmm_(states.mT, slope)
    sums = Shallow(of_across[..., :-1], of_outer, of_inner[:, :-1].mT, of_across[..., -1], of_inner[:, -1])
    return Gradients(sums, carried, total)


def _compiled(weights: Shallow, z: Tensor) -> bool:
    if tiles is None or z.device.type != "cpu":
        return False
    return torch.get_num_threads() <= len(z) or weights.W1.numel() * z.shape[1] <= LARGE


@torch.no_grad()
def growth(weights: Shallow, states: Float[Tensor, "T S B M"]) -> Float[Tensor, " S"]:
    """By how much a small error is multiplied in one step along orbits of each member, the geometric mean over steps and
    orbits: e to the greatest Lyapunov exponent of the map, on long ones."""
    v = torch.randn_like(states[0])
    v /= v.norm(dim=-1, keepdim=True)
    total = v.new_zeros(v.shape[:2])
    for z in states.unbind(0):
        on = weights.regions(z)
        v = v @ weights.A.mT + ((v @ weights.W2.mT) * on) @ weights.W1.mT
        size = v.norm(dim=-1, keepdim=True).clamp(min=1e-30)
        total += size.squeeze(-1).log()
        v = v / size
    return (total.mean(1) / len(states)).exp()


class _Orbit(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        steps: int,
        forcing: Forcing | None,
        start: Tensor,
        drive: Tensor | None,
        target: Tensor | None,
        *weights: Tensor,
    ) -> Tensor:
        swept = forward_sweep(Shallow(*weights), start, steps, forcing, drive)
        ctx.forcing = None if forcing is None else forcing._replace(target=forcing.target.detach())
        ctx.save_for_backward(swept.forced, *weights)
        return swept.states

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> Any:
        forced, *weights = ctx.saved_tensors
        found = adjoint_sweep(Shallow(*weights), forced, gradient[0], ctx.forcing)
        drive = found.steps if ctx.needs_input_grad[3] else None
        target = None
        if ctx.needs_input_grad[4]:
            target = ctx.forcing.of_target(_before(Shallow(*weights), forced[..., :-1], found.steps))
            target = F.pad(target, (0, 0) * 3 + (0, len(ctx.forcing.target) - len(target)))
        return None, None, found.start, drive, target, *found.weights


def _before(weights: Shallow, z: Float[Tensor, "T S B M"], later: Float[Tensor, "T S B M"]) -> Float[Tensor, "T S B M"]:
    """Gradients of the pulled states z from those of the states after them: one product for many steps at once."""
    at_once = max(1, CHUNK // max(1, z[0, ..., 0].numel() * weights.W2.shape[1]))
    found = []
    for some, after in zip(z.split(at_once), later.split(at_once), strict=True):
        rows, gradient = (part.transpose(0, 1).flatten(1, 2) for part in (some, after))
        through = torch.bmm(gradient, weights.W1) * weights.regions(rows)
        before = torch.bmm(gradient, weights.A).baddbmm_(through, weights.W2)
        found.append(before.unflatten(1, some.shape[0:3:2]).transpose(0, 1))
    return torch.cat(found)


def orbit(
    weights: Shallow,
    start: Float[Tensor, "S B M"],
    steps: int,
    forcing: Forcing | None = None,
    drive: Float[Tensor, "T S B M"] | None = None,
) -> Float[Tensor, "T S B M"]:
    """The states after each step, differentiable for `weights`, `start`, `drive` and what pulls."""
    drive = lasting(drive, steps, start)
    return _Orbit.apply(steps, forcing, start, drive, None if forcing is None else forcing.target, *weights)

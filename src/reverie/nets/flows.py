"""A normalising flow of spline couplings, and the distribution it makes of a Gaussian."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from zuko.transforms import MonotonicRQSTransform

from reverie.core.distributions import Gaussian, Reparameterised
from reverie.nets.mlp import mlp


class Coupling(nn.Module):
    """Leaves half of the numbers as they are and bends each of the others, by a monotonic spline on [-5, 5] that
    a network chooses after a look at the first half and the context. Starts as the identity."""

    order: Tensor

    bins = 8
    # Least slope of a spline and, inverted, the greatest. It keeps what the inverse takes a root of well above
    # zero in float32: that is at least slope^2, and made of terms that may be as large as 4 / slope^4.
    slope = 0.1

    def __init__(self, order: Tensor, context: int, width: int):
        super().__init__()
        self.kept = len(order) // 2
        self.register_buffer("order", order)
        bent = len(order) - self.kept
        self.net = mlp(max(1, self.kept + context), width, 2, bent * (3 * self.bins - 1))
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.net[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, context: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
        kept, bent = x[..., self.order].tensor_split([self.kept], -1)
        told = torch.cat([kept, context.expand(*x.shape[:-1], context.shape[-1])], -1)
        if not told.shape[-1]:
            told = x.new_zeros(*x.shape[:-1], 1)  # a single number without context: the biases are all there is
        shapes = self.net(told).unflatten(-1, (bent.shape[-1], -1)).split([self.bins, self.bins, self.bins - 1], -1)
        spline = MonotonicRQSTransform(*shapes, slope=self.slope)
        if inverse:
            moved = spline.inv(bent)
            log_det = -spline.log_abs_det_jacobian(moved, bent)
        else:
            moved, log_det = spline.call_and_ladj(bent)
        return torch.cat([kept, moved], -1)[..., self.order.argsort()], log_det.sum(-1)


class CouplingFlow(nn.Module):
    """A neural spline flow (Durkan et al. 2019, arXiv 1906.04032), made of couplings (Dinh et al. 2016, arXiv 1605.08803):
    either way takes one pass of each network. Two couplings in turn bend all numbers; every two halve them anew.

    >>> flow = CouplingFlow(3, context=2)
    >>> x = torch.randn(5, 3)
    >>> y, log_det = flow(x, torch.randn(5, 2))
    >>> log_det.shape, torch.allclose(x, y)  # it starts as the identity
    (torch.Size([5]), True)
    """

    def __init__(self, features: int, context: int = 0, layers: int = 4, width: int = 64):
        super().__init__()
        orders: list[Tensor] = []
        for _ in range(0, layers, 2):
            order = torch.randperm(features)
            orders += [order, order.flip(0)]
        self.couplings = nn.ModuleList(Coupling(order, context, width) for order in orders[:layers])

    def forward(
        self, x: Float[Tensor, "*batch Z"], context: Float[Tensor, "*some H"] | None = None, inverse: bool = False
    ) -> tuple[Float[Tensor, "*batch Z"], Float[Tensor, "*batch"]]:
        """y = f(x; context), or the x of that y, and the log of the absolute determinant of the Jacobian.

        `context` is expanded to the batch; a flow of no context needs none.
        """
        context = x.new_empty(0) if context is None else context
        total = x.new_zeros(x.shape[:-1])
        for coupling in reversed(self.couplings) if inverse else self.couplings:
            x, log_det = coupling(x, context, inverse)
            total = total + log_det
        return x, total


class FlowedGaussian(Reparameterised):
    """m + s f(noise; context), with a flow f that bends standard normal noise and a diagonal Gaussian N(m, s^2) after it.

    `mean` is where zero noise goes: the centre, but not the expectation, which has no closed form.

    The log-probability of what `place` (or `sample`) just returned is known already, and costs nothing; it is that of
    noise, so differentiate it by parameters or noise, not by z. All other z are taken back to noise, in one pass.

    >>> q = FlowedGaussian(Gaussian(torch.zeros(2, 3), torch.zeros(2, 3)), CouplingFlow(3, 4), torch.randn(2, 4))
    >>> q.log_prob(q.sample(5)).shape
    torch.Size([5, 2])
    """

    def __init__(self, outer: Gaussian, flow: CouplingFlow, context: Tensor, held: bool = False):
        self.outer, self.flow, self.context, self.held = outer, flow, context, held
        self.noise = Gaussian(torch.zeros_like(outer.loc), torch.zeros_like(outer.loc))
        self._placed: tuple[Tensor, int, Tensor] | None = None

    @property
    def mean(self) -> Tensor:
        return self.outer.place(self._bent(self.noise.loc)[0])

    def sample(self, n: int | None = None) -> Tensor:
        return self.place(self.noise.sample(n))

    def place(self, noise: Tensor) -> Tensor:
        bent, log_det = self._bent(noise)
        z = self.outer.place(bent)
        log_prob = self.noise.log_prob(noise) - log_det - self.outer.log_scale.sum(-1)
        self._placed = None if z.is_inference() else (z, z._version, log_prob)
        return z

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        if self._placed is not None:
            z, version, log_prob = self._placed
            # Of a draw made without gradients, the density may still be wanted with them.
            if x is z and x._version == version and (log_prob.requires_grad or not torch.is_grad_enabled()):
                return log_prob
        noise, log_det = self._bent((x - self.outer.loc) / self.outer.scale, inverse=True)
        return self.noise.log_prob(noise) + log_det - self.outer.log_scale.sum(-1)

    def frozen(self) -> "FlowedGaussian":
        return FlowedGaussian(self.outer.frozen(), self.flow, self.context.detach(), held=True)

    def _bent(self, x: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        if not self.held:
            return self.flow(x, self.context, inverse)
        still = {name: p.detach() for name, p in self.flow.named_parameters()}
        return functional_call(self.flow, still, (x, self.context, inverse))

"""Laws of bytes: densities, of which each of the 256 values has its share."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.distributions import Factorised, Gaussian, Lattice, rows_of
from reverie.core.lattice import byte_values, logistic_table, snap


class Binned(Factorised):
    """Bytes by a Gaussian density: the mass of a bin is its width times the density at its centre.

    Over an endless lattice these masses sum to one, to within exp(-2 pi^2 s^2) for a deviation of s
    bytes; what falls outside 0..255 is wasted, so a surprise is never flattered.
    """

    width = 2 / 255

    def __init__(self, density: Gaussian):
        self.density, self.event_dims = density, density.event_dims

    @property
    def mean(self) -> Tensor:
        return self.density.mean

    def sample(self, n: int | None = None) -> Tensor:
        return snap(self.density.sample(n))

    def terms(self, x: Tensor) -> Tensor:
        return self.density.terms(x) + math.log(self.width)

    def table(self, rows: slice) -> tuple[Tensor, Tensor]:
        values, loc = byte_values(self.density.loc), rows_of(self.density.loc, rows).unsqueeze(-1)
        log_scale = rows_of(self.density.log_scale.expand_as(self.density.loc), rows).unsqueeze(-1)
        return Gaussian(loc, log_scale).terms(values) + math.log(self.width), values

    def denoise(self, y: Tensor, noise: float) -> Tensor:
        return snap(self.density.denoise(y, noise))

    def blurred(self, noise: float) -> Gaussian:
        return self.density.blurred(noise)


class LogisticMixture(Factorised):
    """Bytes: a mixture of logistic densities, each integrated over the 256 bins of [-1, 1]; the first and
    last bin take the tails, so the masses sum to one (Salimans, Karpathy, Chen, Kingma 2017, arXiv 1701.05517).

    `loc`, `log_scale`, `logits`: (*batch, M, *event), the last unnormalised mixture weights.

    >>> one = torch.zeros(1, 1, 1)
    >>> p = LogisticMixture(one, one, one)
    >>> everything = torch.stack([p.log_prob(v.view(1, 1)) for v in torch.arange(256) / 127.5 - 1])
    >>> round(everything.exp().sum().item(), 5)
    1.0
    """

    half_bin = 1 / 255

    def __init__(self, loc: Tensor, log_scale: Tensor, logits: Tensor, event_dims: int = 1):
        self.loc, self.log_scale, self.logits, self.event_dims = loc, log_scale, logits, event_dims
        self.axis = -event_dims - 1

    @property
    def mean(self) -> Tensor:
        """The mean of the undiscretised mixture, cut to [-1, 1] (tails beyond the edges pile up in the last bins)."""
        if self.loc.shape[self.axis] == 1:
            return self.loc.squeeze(self.axis).clamp(-1, 1)
        return (torch.softmax(self.logits, self.axis) * self.loc.clamp(-1, 1)).sum(self.axis)

    def sample(self, n: int | None = None) -> Tensor:
        loc, log_scale, logits = self.loc, self.log_scale, self.logits
        if n is not None:
            loc, log_scale, logits = (p.expand(n, *p.shape) for p in (loc, log_scale, logits))
        if loc.shape[self.axis] > 1:
            gumbel = -torch.empty_like(loc).exponential_().log()
            chosen = (logits + gumbel).argmax(self.axis, keepdim=True)
            loc, log_scale = loc.gather(self.axis, chosen), log_scale.gather(self.axis, chosen)
        u = torch.rand_like(loc).clamp(1e-7, 1 - 1e-7)
        return snap((loc + log_scale.exp() * torch.logit(u)).squeeze(self.axis))

    def terms(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(self.axis)
        inverse = torch.exp(-self.log_scale)
        centred = x - self.loc
        above = inverse * (centred + self.half_bin)
        below = inverse * (centred - self.half_bin)
        # S(above) - S(below) = S(above) S(-below) (1 - exp(below - above)), and above - below does not
        # depend on x: three terms that each stay finite however far x is from loc.
        log_left, log_right = F.logsigmoid(above), F.logsigmoid(-below)
        log_width = torch.log(-torch.expm1(-2 * self.half_bin * inverse))
        inside = log_left + log_right + log_width
        edge = 1 - self.half_bin
        log_mass = torch.where(x < -edge, log_left, torch.where(x > edge, log_right, inside))
        if self.loc.shape[self.axis] == 1:
            return log_mass.squeeze(self.axis)
        return torch.logsumexp(log_mass + torch.log_softmax(self.logits, self.axis), self.axis)

    def tempered(self, temperature: float) -> "TemperedBytes":
        """An entry is one choice, of a byte, whichever density it came from."""
        return TemperedBytes(self, temperature)

    def table(self, rows: slice) -> tuple[Tensor, Tensor]:
        loc, log_scale, logits = (rows_of(part, rows) for part in (self.loc, self.log_scale, self.logits))
        return logistic_table(loc, log_scale, logits, self.axis), byte_values(loc)


class TemperedBytes(Factorised):
    """Bytes with the probabilities of another law, by its `table`, to the power of 1 / temperature.

    >>> zero = torch.zeros(1, 1, 1)
    >>> law = LogisticMixture(zero, zero - 2, zero)  # a standard deviation of 0.25
    >>> bool(law.tempered(0.1).sample(1000).std() < 0.1)
    True
    """

    at_once = 2**17  # entries, whose tables of 256 are held together

    def __init__(self, law: LogisticMixture, temperature: float):
        self.law, self.temperature, self.event_dims = law, temperature, law.event_dims

    @property
    def mean(self) -> Tensor:
        return torch.cat([part.mean for _, part in self._parts()])

    def sample(self, n: int | None = None) -> Tensor:
        return torch.cat([part.sample(n) for _, part in self._parts()], 0 if n is None else 1)

    def terms(self, x: Tensor) -> Tensor:
        count = len(self.law.loc)
        if count > 1:
            x = x.expand(count, *x.shape[1:])
        return torch.cat([part.terms(x[rows] if count > 1 else x) for rows, part in self._parts()])

    def table(self, rows: slice) -> tuple[Tensor, Tensor]:
        log_p, values = self.law.table(rows)
        return torch.log_softmax(log_p / self.temperature, -1), values

    def _parts(self) -> Iterator[tuple[slice, Lattice]]:
        count = len(self.law.loc)
        size = max(1, self.at_once * count // self.law.loc.numel())
        for i in range(0, count, size):
            rows = slice(i, i + size)
            yield rows, Lattice(*self.table(rows), self.event_dims)

"""Student's t distribution: a Gaussian that does not take fright at an outlier."""

import math

import torch
from torch import Tensor

from reverie.core.distributions import Factorised, Gaussian


class StudentT(Factorised):
    """Independent Student-t entries with `df` degrees of freedom: x = loc + scale * N(0, 1) / sqrt(w), w ~ Gamma(df/2, df/2).

    `loc` (*batch, *event); `log_scale` and `log_df` broadcastable to it. The mean is loc where df > 1, the variance
    scale^2 df / (df - 2) where df > 2; for large df it is a Gaussian.

    >>> StudentT(torch.zeros(1, 2), torch.zeros(2), torch.zeros(2)).log_prob(torch.zeros(1, 2)).exp() * math.pi**2
    tensor([1.])
    """

    discrete = False

    def __init__(self, loc: Tensor, log_scale: Tensor, log_df: Tensor, event_dims: int = 1):
        self.loc, self.log_scale, self.log_df, self.event_dims = loc, log_scale, log_df, event_dims

    @property
    def mean(self) -> Tensor:
        return self.loc

    def sample(self, n: int | None = None) -> Tensor:
        t = torch.distributions.StudentT(self.log_df.exp(), self.loc, self.log_scale.exp(), validate_args=False)
        return t.rsample(torch.Size() if n is None else torch.Size([n]))

    def terms(self, x: Tensor) -> Tensor:
        u = (x - self.loc) * torch.exp(-self.log_scale - 0.5 * self.log_df)
        # log(1 + u^2), whose square would overflow far out
        far = u.abs() > 1e4
        near = torch.log1p(torch.where(far, 0.0, u).square())
        log1p_square = torch.where(far, 2 * torch.where(far, u.abs(), 1.0).log(), near)
        log_norm = _log_gamma_half_step(self.log_df - math.log(2)) - 0.5 * (self.log_df + math.log(math.pi))
        return log_norm - self.log_scale - 0.5 * (self.log_df.exp() + 1) * log1p_square

    def denoise(self, y: Tensor, noise: float) -> Tensor:
        """Given its precision w an entry is Gaussian, and so exact; log w is drawn from 512 cells of a grid."""
        df = self.log_df.exp()
        error = ((y - self.loc) * torch.exp(-self.log_scale)).square()
        # Between what the farthest w that explains y asks for (no noise at all) and the prior's upper tail.
        tail = 8 * torch.sqrt(2 / df)
        low = torch.log((df + 1) / (df + error)) - tail - 50 / df
        step = (torch.log1p(tail + 80 / df) - low) / 512
        index = torch.arange(512, device=y.device).view(-1, *[1] * y.dim())
        u = low + (index + 0.5) * step
        variance = torch.exp(2 * self.log_scale - u) + noise**2
        score = 0.5 * (df * (u - u.exp()) - variance.log() - (y - self.loc).square() / variance)
        weights = torch.softmax(score, 0).movedim(0, -1)
        cell = torch.multinomial(weights.flatten(0, -2), 1).view(weights.shape[:-1])
        log_w = low + (cell + torch.rand_like(low)) * step
        return Gaussian(self.loc, self.log_scale - 0.5 * log_w, self.event_dims).denoise(y, noise)


def _log_gamma_half_step(log_a: Tensor) -> Tensor:
    """log Gamma(a + 1/2) - log Gamma(a); for large a by its asymptotic series, since the difference itself cancels."""
    small = log_a.clamp(max=math.log(10)).exp()
    inverse = torch.exp(-log_a.clamp(min=math.log(10)))
    series = 0.5 * log_a - inverse * (1 / 8 - inverse.square() * (1 / 192 - inverse.square() / 640))
    return torch.where(log_a < math.log(10), torch.lgamma(small + 0.5) - torch.lgamma(small), series)

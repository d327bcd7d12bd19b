"""What lies behind a series, said at once from what was seen around each step: q(z_t | x_{t-L} … x_{t+L})."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.distributions import Gaussian
from reverie.nets.observations import Observation
from reverie.nets.smoothing import parabolas

HIDDEN = 64  # units that bend what the linear way says
SURE = 0.2  # standard deviation of a belief at the start; states have about unit variance


class Recogniser(nn.Module):
    """A diagonal Gaussian for each step: N channels become 2 M, and windows of 2 `reach` + 1 steps of these lead by a linear way,
    and by another through rectified units, to the mean and the log deviation of M units.

    What was not seen, and what lies before the first step or after the last, is 0; for each channel a flag says so. It
    begins as what would pull without it, the smoothed inverse of the observation. All parameters have their members along the
    first axis.

    >>> recogniser = Recogniser(members=2, latent=3, channels=5, inputs=0, reach=4)
    >>> recogniser(torch.zeros(10, 1, 7, 5)).mean.shape
    torch.Size([10, 2, 7, 3])
    """

    centre: Tensor  # (S, 1, N) what of x says nothing

    def __init__(self, members: int, latent: int, channels: int, inputs: int, reach: int):
        super().__init__()
        self.reach = reach
        codes = 2 * latent
        wide = codes * (2 * reach + 1)
        self.across = nn.Parameter(torch.randn(members, channels, codes) / channels**0.5)
        self.flags = nn.Parameter(torch.zeros(members, channels, codes))
        self.driven = nn.Parameter(torch.zeros(members, inputs, codes)) if inputs else None
        self.along = nn.Parameter(0.1 * torch.randn(members, wide, latent) / wide**0.5)
        self.inner = nn.Parameter(torch.randn(members, wide, HIDDEN) / wide**0.5)
        self.bias = nn.Parameter(torch.randn(members, 1, HIDDEN))
        self.outer = nn.Parameter(torch.zeros(members, HIDDEN, codes))
        start = [0.0] * latent + [math.log(SURE)] * latent
        self.last = nn.Parameter(torch.tensor(start).repeat(members, 1, 1))
        self.register_buffer("centre", torch.zeros(members, 1, channels))

    @torch.no_grad()
    def prepare(self, seen: Observation, smoothed: int) -> None:
        """Begins as the inverse of `seen`, smoothed over so many steps on both sides."""
        nothing = self.centre.new_zeros(1, 1, 1, seen.channels)
        pull = seen.forcing(nothing, torch.ones_like(nothing))
        self.centre.copy_((seen.linked(nothing) - pull.target)[0].expand_as(self.centre))
        inverse = torch.eye(pull.reach).to(self.centre) if pull.gain is None else pull.gain
        self.across[..., : pull.reach] = inverse
        size = 2 * self.reach + 1
        weights = parabolas(size, min(smoothed, self.reach))[self.reach].to(self.centre)
        for i in range(pull.reach):
            self.along[:, :, i] = 0
            self.along[:, size * i : size * (i + 1), i] = weights

    def forward(
        self,
        x: Float[Tensor, "T members B N"],
        observed: Bool[Tensor, "T members B N"] | None = None,
        inputs: Float[Tensor, "T members B K"] | None = None,
    ) -> Gaussian:
        """q(z | x), events of M units (T, S, B, M), for x on the scale of locations, 0 or whatever where it was not observed."""
        code = x - self.centre
        if observed is None:
            code = code @ self.across + self.flags.sum(1, keepdim=True)
        else:
            known = observed.to(x.dtype)
            code = (code * known) @ self.across + known @ self.flags
        if inputs is not None and self.driven is not None:
            code = code + inputs @ self.driven
        windows = F.pad(code, (0, 0) * 3 + (self.reach, self.reach)).unfold(0, 2 * self.reach + 1, 1)
        steps, members, batch = windows.shape[:3]
        rows = windows.transpose(0, 1).reshape(members, steps * batch, -1)
        bent = torch.baddbmm(self.last, torch.relu(torch.baddbmm(self.bias, rows, self.inner)), self.outer)
        mean, log_scale = bent.chunk(2, -1)
        mean = torch.baddbmm(mean, rows, self.along)
        mean, log_scale = (part.unflatten(1, (steps, batch)).transpose(0, 1) for part in (mean, log_scale))
        return Gaussian(mean.contiguous(), log_scale.contiguous())

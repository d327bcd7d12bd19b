"""From what a decoder puts out to a normalised p(x|z): one head for each kind of space."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from reverie.core.distributions import Bernoulli, Factorised, Gaussian, LogisticMixture
from reverie.core.errors import BadInput
from reverie.core.space import Space


class Head(nn.Module, ABC):
    """Raw decoder output (B, channels * C, ...) to p(x|z) over a space (C, ...).

    `channels`: how many numbers the decoder must put out for each entry of x. A bias for every
    entry is learned here, so that a decoder without position (a convolution) need not spell out the mean picture.
    """

    channels: int

    def __init__(self, space: Space, channels: int):
        super().__init__()
        self.channels = channels
        self.shape = space.shape
        self.event_dims = len(space.shape)
        self.bias = nn.Parameter(torch.zeros(channels, *space.shape))

    def split(self, raw: Tensor, shift: Tensor | None, located: int) -> Tensor:
        """(B, channels, *shape), with `shift` (B, D) added to the first `located` channels: those of location."""
        raw = raw.reshape(len(raw), self.channels, *self.shape) + self.bias
        if shift is None:
            return raw
        shift = shift.view(len(raw), 1, *self.shape)
        return torch.cat([raw[:, :located] + shift, raw[:, located:]], 1)

    @abstractmethod
    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        """p(x|z) from the decoder's output, its location (or logit) moved by `shift` (B, D) where given."""


class BitHead(Head):
    """Bernoulli logits."""

    def __init__(self, space: Space):
        super().__init__(space, 1)

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        return Bernoulli(self.split(raw, shift, 1).squeeze(1), self.event_dims)


class RealHead(Head):
    """Gaussian with a learned scale for every entry and example."""

    def __init__(self, space: Space):
        super().__init__(space, 2)

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        mean, log_scale = self.split(raw, shift, 1).unbind(1)
        return Gaussian(mean, log_scale.clamp(-7, 7), self.event_dims)


class ByteHead(Head):
    """A mixture of discretised logistics; at the start the components are spread over the range."""

    def __init__(self, space: Space, components: int):
        super().__init__(space, 3 * components)
        self.components = components
        with torch.no_grad():
            spread = torch.linspace(-0.5, 0.5, components) if components > 1 else torch.zeros(1)
            self.bias[:components] = spread.view(-1, *[1] * self.event_dims)
            self.bias[components : 2 * components] = -2.0

    def forward(self, raw: Tensor, shift: Tensor | None = None) -> Factorised:
        loc, log_scale, logits = self.split(raw, shift, self.components).chunk(3, 1)
        return LogisticMixture(loc, log_scale.clamp(-7, 3), logits, self.event_dims)


def head(space: Space, components: int = 1) -> Head:
    """The default likelihood of a space; `components` logistics in each byte's mixture.

    >>> head(Space((1, 8, 8), "byte"), components=5).channels
    15
    """
    if space.kind == "bit":
        return BitHead(space)
    if space.kind == "byte":
        return ByteHead(space, components)
    if space.kind == "real":
        return RealHead(space)
    raise BadInput(f"no likelihood for {space.kind} entries; use bit, byte or real data")

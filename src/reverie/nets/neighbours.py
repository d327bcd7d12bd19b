"""Pictures shown place by place: p(x_i | x_<i, z), where a place is told what was shown near it before it.

The decoder still says how everything should look; a small net of the neighbourhood, the same at every place, corrects that. So z need not carry
texture (Gulrajani et al. 2016, arXiv 1611.05013), and drawing costs a small net at each place rather than a large one.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.errors import BadInput
from reverie.core.sequential import Place, Sequential
from reverie.core.space import Space
from reverie.nets.likelihoods import Head, Likelihood, head

LAYERS = 2  # residual ones, of 1x1


class Neighbours(nn.Module):
    """What is to be added to a decoder's numbers (B, maps, H, W) at each place, from those within `radius` of it, and from what is shown of x
    (B, C, H, W) within `radius` and before it, row by row from the top. At the start nothing."""

    causal: Tensor

    def __init__(self, channels: int, maps: int, radius: int, width: int):
        super().__init__()
        self.radius, side = radius, 2 * radius + 1
        self.said = nn.Conv2d(maps, width, side, padding=radius)
        self.shown = nn.Conv2d(channels, width, (radius + 1, side), bias=False)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(LAYERS))
        self.out = nn.Conv2d(width, maps, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]
        causal = torch.ones(1, 1, radius + 1, side)
        causal[..., radius, radius:] = 0  # not the place itself, nor those to its right
        self.register_buffer("causal", causal, persistent=False)
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def heard(self, raw: Tensor) -> Tensor:
        """(B, width, H, W) what the decoder says around each place."""
        return self.said(raw.contiguous(memory_format=torch.channels_last))

    def padded(self, x: Tensor) -> Tensor:
        """With zeros above and beside, where nothing is ever shown."""
        return F.pad(x, (self.radius, self.radius, self.radius, 0))

    def seen(self, padded: Tensor) -> Tensor:
        """(B, width, h, w) of (B, C, h + radius, w + 2 radius)."""
        return F.conv2d(padded.contiguous(memory_format=torch.channels_last), self.shown.weight * self.causal)

    def correction(self, h: Tensor) -> Tensor:
        """(B, maps, h, w) of what was heard and seen together (B, width, h, w)."""
        for layer in self.layers:
            h = h + layer(F.silu(h))
        return self.out(F.silu(h))


class NeighbourLaw(Sequential):
    """p(x|z) for what a decoder says, `raw` (B, maps, H, W), its locations moved by `shift` (B, C H W) where given."""

    def __init__(self, net: Neighbours, all_places: Head, one_place: Head, raw: Tensor, shift: Tensor | None):
        self.net, self.all_places, self.one_place = net, all_places, one_place
        self.raw, self.shift = raw, shift

    def repeated(self, n: int) -> "NeighbourLaw":
        shift = None if self.shift is None else self.shift.repeat(n, 1)
        return NeighbourLaw(self.net, self.all_places, self.one_place, self.raw.repeat(n, 1, 1, 1), shift)

    def whole(self, x: Tensor) -> Tensor:
        h = self.net.heard(self.raw) + self.net.seen(self.net.padded(x))
        return self.all_places(self.raw + self.net.correction(h), self.shift).log_prob(x)

    @torch.no_grad()
    def walk(self, place: Place) -> Tensor:
        net, radius = self.net, self.net.radius
        rows, _, height, width = self.raw.shape
        heard = net.heard(self.raw)
        channels = net.shown.in_channels
        shift = None if self.shift is None else self.shift.view(rows, channels, height, width)
        canvas = net.padded(self.raw.new_zeros(rows, channels, height, width))
        for r in range(height):
            for c in range(width):
                at = (..., slice(r, r + 1), slice(c, c + 1))
                near = canvas[..., r : r + radius + 1, c : c + 2 * radius + 1]
                raw = self.raw[at] + net.correction(heard[at] + net.seen(near))
                law = self.one_place(raw, None if shift is None else shift[at].flatten(1))
                canvas[..., r + radius, c + radius] = place(at, law)[..., 0, 0]
        return canvas[..., radius:, radius : radius + width].contiguous()


class NeighbourHead(Head):
    """A head whose places are told of their neighbours: the only one that learns.

    >>> tell = NeighbourHead(Space((1, 4, 4), "bit"), radius=1, width=8)
    >>> tell(torch.zeros(2, 16)).sample().shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(self, space: Space, name: Likelihood = "auto", components: int = 1, radius: int = 3, width: int = 32):
        super().__init__()
        if not space.is_picture:
            raise BadInput(
                f"only pictures have neighbours, not examples of shape {space.shape}; set --model.neighbours 0"
            )
        channels, self.height, self.width = space.shape
        self.all_places = head(space, name, components)
        self.one_place = head(Space((channels, 1, 1), space.kind), name, components)
        self.start, self.shifts = self.all_places.start, self.all_places.shifts
        self.net = Neighbours(channels, self.outputs // (self.height * self.width), radius, width)

    def forward(self, raw: Float[Tensor, "B *outputs"], shift: Float[Tensor, "B shifts"] | None = None) -> NeighbourLaw:
        maps = raw.reshape(len(raw), -1, self.height, self.width)
        return NeighbourLaw(self.net, self.all_places, self.one_place, maps, shift)


def told(space: Space, name: Likelihood, components: int, radius: int, width: int) -> Head:
    """The head of that name, whose places are told of their neighbours within `radius`; 0: of none."""
    return NeighbourHead(space, name, components, radius, width) if radius else head(space, name, components)

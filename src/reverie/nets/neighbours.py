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
HINTS = 3  # numbers that a decoder says of each place for the net of the neighbourhood alone, such as how far it is to be believed


class Neighbours(nn.Module):
    """What is to be added to a decoder's numbers at each place, (B, maps, H, W), from all that it says (B, said, H, W) there and beside it,
    and from what is shown of x (B, C, H, W) within `radius` and before it, row by row from the top. At the start nothing.
    """

    known: Tensor

    def __init__(self, channels: int, said: int, maps: int, radius: int, width: int):
        super().__init__()
        self.radius, self.channels = radius, channels
        # Apart, for only what is said has a gradient, and that of a wide convolution over few channels costs more than all the rest.
        self.said = nn.Conv2d(said, width, 3, padding=1)
        above = (radius + 1, 2 * radius + 1)  # down to the row of the place
        self.shown = nn.Conv2d(channels, width, above, bias=False)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(LAYERS))
        self.out = nn.Conv2d(width, maps, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]
        known = torch.ones(1, 1, *above)
        known[..., radius, radius:] = 0
        self.register_buffer("known", known, persistent=False)
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def around(self, said: Tensor, x: Tensor | None) -> Tensor:
        """(B, width, H, W) what is said and shown around each place; None: nothing is shown."""
        heard: Tensor = self.said(said.contiguous(memory_format=torch.channels_last))
        if x is None:
            return heard
        above = F.pad(x, (self.radius, self.radius, self.radius, 0)).contiguous(memory_format=torch.channels_last)
        return heard + F.conv2d(above, self.shown.weight * self.known)

    def before(self) -> Tensor:
        """(width, C (radius + 1) (2 radius + 1)) the weights on what is shown in the rows down to that of a place."""
        return (self.shown.weight * self.known).flatten(1)

    def correction(self, h: Tensor) -> Tensor:
        """(B, maps, h, w) of what is around (B, width, h, w)."""
        for layer in self.layers:
            h = h + layer(F.silu(h))
        return self.out(F.silu(h))


class NeighbourLaw(Sequential):
    """p(x|z) for what a decoder says (B, said, H, W), its locations moved by `shift` (B, C H W) where given."""

    def __init__(self, net: Neighbours, all_places: Head, one_place: Head, said: Tensor, shift: Tensor | None):
        self.net, self.all_places, self.one_place = net, all_places, one_place
        self.said, self.shift = said, shift
        self.raw = said[:, : net.out.out_channels]  # the numbers of the law; the rest is for the net alone
        self.reduced = torch.is_autocast_enabled(said.device.type)  # the net that tells computes as the decoder did

    def repeated(self, n: int) -> "NeighbourLaw":
        shift = None if self.shift is None else self.shift.repeat(n, 1)
        return NeighbourLaw(self.net, self.all_places, self.one_place, self.said.repeat(n, 1, 1, 1), shift)

    def whole(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.reduced):
            raw = self.raw + self.net.correction(self.net.around(self.said, x))
        return self.all_places(raw, self.shift).log_prob(x)

    @torch.no_grad()
    def walk(self, place: Place) -> Tensor:
        net, radius = self.net, self.net.radius
        rows, _, height, width = self.raw.shape
        nothing = self.raw.new_zeros(rows, net.channels, height, width)
        shift = None if self.shift is None else self.shift.view_as(nothing)
        heard, before = net.around(self.said, None), net.before()
        canvas = F.pad(nothing, (radius, radius, radius, 0))  # zeros above and beside, where nothing is ever shown
        for r in range(height):
            for c in range(width):
                at = (..., slice(r, r + 1), slice(c, c + 1))
                shown = F.linear(canvas[..., r : r + radius + 1, c : c + 2 * radius + 1].flatten(1), before)
                raw = self.raw[at] + net.correction(heard[at] + shown[..., None, None])
                law = self.one_place(raw, None if shift is None else shift[at].flatten(1))
                canvas[..., r + radius, c + radius] = place(at, law)[..., 0, 0]
        return canvas[..., radius:, radius : radius + width].contiguous()


class NeighbourHead(Head):
    """A head whose places are told of their neighbours: the only one that learns.

    >>> tell = NeighbourHead(Space((1, 4, 4), "bit"), radius=1, width=8)
    >>> tell(torch.zeros(2, tell.outputs)).sample().shape
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
        law, places = self.all_places.start, self.height * self.width
        self.start, self.shifts = torch.cat([law, law.new_zeros(HINTS * places)]), self.all_places.shifts
        maps = len(law) // places
        self.net = Neighbours(channels, maps + HINTS, maps, radius, width)

    def forward(self, raw: Float[Tensor, "B *outputs"], shift: Float[Tensor, "B shifts"] | None = None) -> NeighbourLaw:
        said = raw.reshape(len(raw), -1, self.height, self.width)
        return NeighbourLaw(self.net, self.all_places, self.one_place, said, shift)


def told(space: Space, name: Likelihood, components: int, radius: int, width: int) -> Head:
    """The head of that name, whose places are told of their neighbours within `radius`; 0: of none."""
    return NeighbourHead(space, name, components, radius, width) if radius else head(space, name, components)

"""Pictures shown place by place: p(x_i | x_<i, z), where a place is told what was shown near it before it.

The decoder still says how everything should look; a small net of the neighbourhood, the same at every place, corrects that. So z need not carry
texture (Gulrajani et al. 2016, arXiv 1611.05013), and drawing costs a small net at each place rather than a large one, and is done at many
places at once.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.errors import BadInput
from reverie.core.sequential import Place, Sequential
from reverie.core.space import Space
from reverie.nets.likelihoods import Head, Likelihood, head

LAYERS = 2  # residual ones
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
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(LAYERS))
        self.out = nn.Linear(width, maps)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        known = torch.ones(1, 1, *above)
        known[..., radius, radius:] = 0
        self.register_buffer("known", known, persistent=False)
        for parameter in self.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def around(self, said: Tensor, x: Tensor | None) -> Tensor:
        """(B, H, W, width) what is said and shown around each place; None: nothing is shown."""
        heard: Tensor = self.said(said.contiguous(memory_format=torch.channels_last))
        if x is not None:
            above = F.pad(x, (self.radius, self.radius, self.radius, 0)).contiguous(memory_format=torch.channels_last)
            heard = heard + F.conv2d(above, self.shown.weight * self.known)
        return heard.movedim(1, -1)

    def correction(self, h: Tensor) -> Tensor:
        """(..., maps) of what is around (..., width)."""
        for layer in self.layers:
            h = h + layer(F.silu(h))
        return self.out(F.silu(h))


class NeighbourLaw(Sequential):
    """p(x|z) for what a decoder says (B, said, H, W), its locations moved by `shift` (B, C H W) where given."""

    def __init__(self, net: Neighbours, all_places: Head, fronts: nn.ModuleList, said: Tensor, shift: Tensor | None):
        self.net, self.all_places, self.fronts = net, all_places, fronts
        self.said, self.shift = said, shift
        self.raw = said[:, : net.out.out_features]  # the numbers of the law; the rest is for the net alone
        self.reduced = torch.is_autocast_enabled(said.device.type)  # the net that tells computes as the decoder did

    def repeated(self, n: int) -> "NeighbourLaw":
        shift = None if self.shift is None else self.shift.repeat(n, 1)
        return NeighbourLaw(self.net, self.all_places, self.fronts, self.said.repeat(n, 1, 1, 1), shift)

    def whole(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.reduced):
            raw = self.raw + self.net.correction(self.net.around(self.said, x)).movedim(-1, 1)
        return self.all_places(raw, self.shift).log_prob(x)

    @torch.no_grad()
    def walk(self, place: Place) -> Tensor:
        net, radius = self.net, self.net.radius
        rows, _, height, width = self.raw.shape
        nothing = self.raw.new_zeros(rows, net.channels, height, width)
        shift = None if self.shift is None else self.shift.view_as(nothing)
        heard, weight = net.around(self.said, None), (net.shown.weight * net.known).flatten(1)
        canvas = F.pad(nothing, (radius, radius, radius, 0))  # zeros above and beside, where nothing is ever shown
        # (B, H, W, C, down, along): what every place is told of, as it comes to be
        windows = canvas.unfold(2, radius + 1, 1).unfold(3, 2 * radius + 1, 1).movedim(1, 3)
        for r, c in fronts(height, width, radius):
            at = (..., r, c)
            shown = F.linear(windows[:, r, c].flatten(3), weight)  # (B, k, 1, width)
            raw = self.raw[at] + net.correction(heard[:, r, c] + shown).movedim(-1, 1)
            law = self.fronts[len(r) - 1](raw, None if shift is None else shift[at].flatten(1))
            canvas[..., r + radius, c + radius] = place(at, law)
        return canvas[..., radius:, radius : radius + width].contiguous()


def fronts(height: int, width: int, radius: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Rows (k, 1) and columns (k, 1) of places that are not told of each other, each front after all those that it is told of: a row may
    follow `radius` + 1 columns behind the one above it (Lamport 1974, The parallel execution of DO loops)."""
    behind = min(radius + 1, width)
    for turn in range((height - 1) * behind + width):
        rows = torch.arange(max(0, -(-(turn - width + 1) // behind)), min(height - 1, turn // behind) + 1).unsqueeze(1)
        yield rows, turn - behind * rows


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
        longest = max(len(r) for r, _ in fronts(self.height, self.width, radius))
        shapes = [(channels, k, 1) for k in range(1, longest + 1)]
        self.fronts = nn.ModuleList(head(Space(shape, space.kind), name, components) for shape in shapes)
        law, places = self.all_places.start, self.height * self.width
        self.start, self.shifts = torch.cat([law, law.new_zeros(HINTS * places)]), self.all_places.shifts
        maps = len(law) // places
        self.net = Neighbours(channels, maps + HINTS, maps, radius, width)

    def forward(self, raw: Float[Tensor, "B *outputs"], shift: Float[Tensor, "B shifts"] | None = None) -> NeighbourLaw:
        said = raw.reshape(len(raw), -1, self.height, self.width)
        return NeighbourLaw(self.net, self.all_places, self.fronts, said, shift)


def told(space: Space, name: Likelihood, components: int, radius: int, width: int) -> Head:
    """The head of that name, whose places are told of their neighbours within `radius`; 0: of none."""
    return NeighbourHead(space, name, components, radius, width) if radius else head(space, name, components)

"""Channels of different kinds that are seen of one state: real numbers, counts, categories and ordered ones together."""

import functools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reverie.core.distributions import Factorised
from reverie.core.errors import BadInput
from reverie.core.space import Column, Space
from reverie.core.table import Table
from reverie.nets.modalities import Modality, modality
from reverie.nets.observations import FITTING, AffineObservation, Observation, ObservationName, observation
from reverie.nets.recurrence import Forcing

DRAWS = 256  # standard normal states over which expectations are taken


@functools.cache
def standard(size: int) -> Float[Tensor, "D R"]:
    """Standard normal states, always the same ones, each with its opposite and of unit variance."""
    half = torch.randn(DRAWS // 2, size, generator=torch.Generator("cpu").manual_seed(0), device="cpu")
    return torch.cat([half, -half]) / half.square().mean(0).sqrt()


class MixedModality(Modality):
    """Channels of different kinds side by side; their locations lie kind by kind."""

    order: Tensor  # (N,) the channels, kind by kind
    wide: Tensor  # (N,) numbers through which each is seen, in that order
    real: Tensor  # (N,) bool, which channels are

    def __init__(self, members: int, columns: Sequence[Column], spread: bool = False):
        super().__init__(len(columns))
        groups: dict[tuple[str, int], list[int]] = {}
        for i, column in enumerate(columns):
            if column.levels == 1:
                raise BadInput(f"channel {column.name!r} has one level and never changes; leave it out")
            groups.setdefault((column.kind, column.levels), []).append(i)
        parts = [modality(kind, members, len(of), levels, spread) for (kind, levels), of in groups.items()]
        self.parts: Sequence[Modality] = nn.ModuleList(parts)  # type: ignore[assignment]
        self.sizes, self.widths = [part.channels for part in parts], [part.numbers for part in parts]
        self.numbers = sum(self.widths)
        order = [i for of in groups.values() for i in of]
        wide = [part.width for part in parts for _ in range(part.channels)]  # of each channel, in that order
        self.register_buffer("order", torch.tensor(order), persistent=False)
        self.register_buffer("wide", torch.tensor(wide), persistent=False)
        self.register_buffer("real", torch.tensor([c.kind == "real" for c in columns]), persistent=False)

    def law(self, location: Tensor) -> Table:
        located = location.split(self.widths, -1)
        return self._table([part.law(at) for part, at in zip(self.parts, located, strict=True)])

    def first(self, like: Tensor) -> Table:
        return self._table([part.first(seen) for part, seen in zip(self.parts, self._split(like), strict=True)])

    def _table(self, laws: Sequence[Factorised]) -> Table:
        return Table(laws, self.order.split(self.sizes))

    def _split(self, x: Tensor) -> Sequence[Tensor]:
        """Channels (…, N) by kind."""
        return x[..., self.order].split(self.sizes, -1)

    def linked(self, x: Tensor) -> Tensor:
        return torch.cat([part.linked(seen) for part, seen in zip(self.parts, self._split(x), strict=True)], -1)

    def averaging(self, x: Tensor) -> Tensor:
        return x[..., self.real]

    def smoothed(self, x: Tensor, weights: Tensor) -> Tensor:
        """Of its real channels; of a category there is no mean."""
        return torch.where(self.real, super().smoothed(x, weights), x)

    def target(self, x: Tensor, around: Tensor) -> Tensor:
        parts = zip(self.parts, self._split(x), around.split(self.widths, -1), strict=True)
        wanted = [part.target(seen, there) for part, seen, there in parts]
        shape = torch.broadcast_shapes(*(one.shape[:-1] for one in wanted))  # with members, where any has some
        return torch.cat([one.expand(*shape, -1) for one in wanted], -1)

    def trust(self, around: Tensor) -> Tensor:
        parts = zip(self.parts, around.split(self.widths, -1), strict=True)
        return torch.cat([part.trust(there) for part, there in parts], -1)[..., self.order.argsort()]

    def spread(self, x: Tensor) -> Tensor:
        return x[..., self.order].repeat_interleave(self.wide, -1)

    def prepare(self, x: Tensor, known: Tensor) -> Tensor:
        pairs = zip(self.parts, self._split(x), self._split(known), strict=True)
        return torch.cat([part.prepare(seen, there) for part, seen, there in pairs])

    def settle(self, error: Tensor) -> None:
        for part, of in zip(self.parts, self._split(error), strict=True):
            part.settle(of)


class MixedObservation(AffineObservation):
    """Channels of different kinds, all seen of one location z_1 … z_R B + b, given the state independent of each other (Kramer,
    Bommer, Tombolini, Koppe & Durstewitz 2022, arXiv 2111.02922).

    What was seen pulls the state through the pseudo-inverse of the joint readout B (multimodal teacher forcing without a second network;
    compare Brenner, Hess, Koppe & Durstewitz 2024, arXiv 2212.07892). A count, or a label, says less of its location than a real number
    does: each channel pulls by the share of its location's variance that one look at it explains (`Modality.trust`), as a
    share of the greatest such. So real channels alone are pulled as by an affine Gaussian, to the last bit; a channel whose
    readout is near nothing pulls nothing; and alpha stays what it is everywhere, how far the most telling channel pulls.

    >>> columns = (Column("volts", "real"), Column("spikes", "count"), Column("state", "category", 3))
    >>> seen = MixedObservation(1, 2, columns)
    >>> seen.modality.numbers, seen(torch.zeros(1, 5, 2)).sample().shape
    (4, torch.Size([1, 5, 3]))
    """

    def __init__(self, members: int, latent: int, columns: Sequence[Column], spread: bool = False):
        super().__init__(members, latent, MixedModality(members, columns, spread))

    @torch.no_grad()
    def target(self, x: Tensor) -> Tensor:
        return self.modality.target(x, self._around()) - self.bias

    def forcing(self, x: Tensor, weight: Tensor) -> Forcing:
        forcing = super().forcing(x, weight)
        with torch.no_grad():
            trust = self.modality.trust(self._around()).unsqueeze(1)
            trust = trust / trust.amax(-1, keepdim=True).clamp(min=1e-12)
            return forcing._replace(weight=self.modality.spread(weight * trust))

    def _around(self) -> Float[Tensor, "S D w"]:
        """The locations of standard normal states."""
        return self.location(standard(self.reach).to(self.bias))


def observation_of(space: Space, name: ObservationName, members: int, latent: int) -> Observation:
    """The observation model of that name for series of a space; where its channels are of different kinds the name is that of its counts."""
    if space.kind != "mixed":
        return observation(name, space.kind, members, latent, space.shape[-1])
    if name != "auto" and (name not in FITTING["count"] or not any(column.kind == "count" for column in space.columns)):
        raise BadInput(
            f"observation {name} is for series of one kind; where kinds differ it may be auto, or, of counts, {' or '.join(FITTING['count'])}"
        )
    return MixedObservation(members, latent, space.columns, name == "negative_binomial")

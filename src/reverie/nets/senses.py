"""What an encoder gets to see of an example."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from reverie.core.errors import BadInput
from reverie.core.space import Space


class Senses(nn.Module):
    """Examples (B, *space.shape) as numbers (B, *shape) that suit a network; nothing here is learned.

    Counts are seen as log(1 + count), categories one-hot (so a table gets wider), all else as it is, and 0 where
    unobserved. With `holes` follows an indicator of what was observed, with `classes` > 0 the one-hot label:
    to a picture as more channels, to anything else as more numbers of a flat vector.

    >>> Senses(Space((3, 8, 8), "byte"), classes=10, holes=True).shape
    (16, 8, 8)
    """

    source: Tensor  # of each number of a table's row: the column it is read from
    level: Tensor  # and which category it stands for; -1 for numbers
    count: Tensor  # and whether it is a count

    def __init__(self, space: Space, classes: int = 0, holes: bool = False):
        super().__init__()
        self.space, self.classes, self.holes = space, classes, holes
        wide = [(i, level, c.kind) for i, c in enumerate(space.columns) for level in range(max(1, c.levels))]
        self.register_buffer("source", torch.tensor([i for i, _, _ in wide], dtype=torch.long), persistent=False)
        level = [level if kind in ("category", "ordered") else -1 for _, level, kind in wide]
        self.register_buffer("level", torch.tensor(level, dtype=torch.long), persistent=False)
        self.register_buffer(
            "count", torch.tensor([k == "count" for *_, k in wide], dtype=torch.bool), persistent=False
        )
        self.shape = (len(wide),) if wide else space.shape
        if holes or classes:
            if space.is_picture:
                self.shape = (space.shape[0] * (1 + holes) + classes, *space.shape[1:])
            else:
                self.shape = ((len(wide) or space.dims) + holes * space.dims + classes,)

    def forward(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None = None,
        given: Int[Tensor, " labels"] | None = None,
    ) -> Float[Tensor, "B *seen"]:
        """(B, *self.shape). `given`: labels 0 … classes - 1, without which (or with others) a BadInput is raised; not
        looked at where there are no classes."""
        parts = [self._entries(x, observed)]
        if self.holes:
            parts.append(torch.ones_like(x) if observed is None else observed.to(x.dtype))
        if self.classes:
            label = self._label(x, given)
            parts.append(
                label.view(*label.shape, 1, 1).expand(-1, -1, *x.shape[2:]) if self.space.is_picture else label
            )
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts if self.space.is_picture else [part.flatten(1) for part in parts], 1)

    def _entries(self, x: Tensor, observed: Tensor | None) -> Tensor:
        if observed is not None:  # before anything is made of it, so that a NaN reaches no gradient either
            x = torch.where(observed, x, x.new_zeros(()))
        if self.space.kind == "count":
            return x.log1p()
        if self.space.kind != "mixed":
            return x
        x = x[:, self.source]
        seen = torch.where(self.count, torch.where(self.count, x, 0.0).log1p(), x)
        hot = x == self.level
        if observed is not None:  # not category 0 either
            hot = hot & observed[:, self.source]
        return torch.where(self.level >= 0, hot.to(x.dtype), seen)

    def _label(self, x: Tensor, given: Tensor | None) -> Tensor:
        """(B, classes) one-hot."""
        wanted = f"one of 0 to {self.classes - 1} for each example"
        if given is None:
            raise BadInput(f"a model of {self.classes} classes needs labels and none were given; give {wanted}")
        if len(given) != len(x):
            raise BadInput(f"{len(given)} labels were given for {len(x)} examples; give {wanted}")
        if len(given) and not (int(given.min()) >= 0 and int(given.max()) < self.classes):
            raise BadInput(f"labels from {int(given.min())} to {int(given.max())} were given; give {wanted}")
        return F.one_hot(given.long(), self.classes).to(x.dtype)

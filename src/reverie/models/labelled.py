"""What a model of examples with labels can do with them."""

from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.model import Batch, Estimate, Model
from reverie.core.space import Space


class Labelled(Model):
    """p(x | y) for each of `classes` labels y, and how often each of them occurs, `label_shares`; with 0 classes, p(x).

    Where a dream is given no label, one is drawn; where a surprise is given none, it is that of p(x), summed over all of them.
    """

    label_shares: Tensor

    def __init__(self, config: Any, space: Space, classes: int = 0):
        super().__init__(config, space)
        self.classes = classes
        self.register_buffer("label_shares", torch.full((classes,), 1 / max(classes, 1)))

    @abstractmethod
    def _surprise(self, x: Tensor, observed: Tensor | None, draws: int, given: Tensor | None) -> Estimate:
        """-log p(x | given) nats (B,), of what was observed."""

    def labels(self, n: int, given: Int[Tensor, " n"] | None) -> Int[Tensor, " n"] | None:
        if not self.classes:
            return super().labels(n, given)
        if given is None:
            return torch.multinomial(self.label_shares, n, replacement=True)
        if given.shape != (n,) or given.min() < 0 or given.max() >= self.classes:
            raise BadInput(f"{n} labels from 0 to {self.classes - 1} are needed, not {given.tolist()[:8]}")
        return given.to(self.label_shares.device)

    def need_labels(self, given: Tensor | None) -> None:
        """Raises BadInput where the machine was trained with labels and none are given."""
        if self.classes and given is None:
            raise BadInput(f"this machine was trained with labels; say which of 0 to {self.classes - 1} is given")

    @torch.no_grad()
    def solve(self, data: Any, config: Any) -> None:
        labels = data.train.labels
        if self.classes and labels is not None:
            self.label_shares.copy_(torch.bincount(labels, minlength=self.classes) / len(labels))

    @torch.no_grad()
    def surprise(
        self,
        x: Float[Tensor, "B *shape"],
        observed: Bool[Tensor, "B *shape"] | None = None,
        draws: int = 100,
        given: Int[Tensor, " B"] | None = None,
    ) -> Estimate:
        """-log p(x | given), or where a machine with labels is not told them, -log sum_y p(y) p(x|y) over all of them."""
        if given is None and self.classes:
            return marginal(self.by_label(x, observed, draws), self.label_shares)
        return self._surprise(x, observed, draws, given)

    @torch.no_grad()
    def by_label(
        self, x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None = None, draws: int = 100
    ) -> list[Estimate]:
        """-log p(x|y) for every label y: the free energies by which an example is classified."""
        every = (torch.full((len(x),), y, device=x.device) for y in range(self.classes))
        return [self._surprise(x, observed, draws, given) for given in every]

    def chances(
        self, x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None = None, draws: int = 100
    ) -> Float[Tensor, "B classes"]:
        """p(y | what was seen), as far as the estimates of p(x|y) are right."""
        nats = torch.stack([found.value for found in self.by_label(x, observed, draws)], 1)
        return torch.softmax(self.label_shares.log() - nats, 1)

    def with_labels(self, x: Float[Tensor, "B *shape"], observed: Bool[Tensor, "B *shape"] | None, n: int) -> Batch:
        """n copies of the examples, each with a label drawn from what its seen entries say of it."""
        labels = torch.multinomial(self.chances(x, observed, 50), n, replacement=True).T
        return Batch(x, observed).copies(n)._replace(given=labels.flatten())


def marginal(parts: list[Estimate], shares: Tensor) -> Estimate:
    """-log sum_y p(y) p(x|y) from -log p(x|y) of every label y, and its standard error by the delta method."""
    nats = torch.stack([part.value for part in parts]) - shares.log().unsqueeze(1)
    value = -torch.logsumexp(-nats, 0)
    error = (torch.softmax(-nats, 0) * torch.stack([part.error for part in parts])).square().sum(0).sqrt()
    return Estimate(value, error, "nats", "lower", f"{parts[0].method}, all {len(parts)} labels")

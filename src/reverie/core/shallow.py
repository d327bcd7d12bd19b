"""The form that every piecewise linear cell can be brought to."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class Shallow(NamedTuple):
    """z' = A z + W1 relu(W2 z + h2) + h1 of every member: the shallow PLRNN (Hess, Monfared, Brenner & Durstewitz 2023,
    arXiv 2306.04406), and the form that every piecewise linear cell can be brought to.

    >>> half = Shallow(0.5 * torch.eye(2)[None], *(torch.zeros(1, *n) for n in ((2, 3), (3, 2), (2,), (3,))))
    >>> half.step(torch.ones(1, 1, 2))
    tensor([[[0.5000, 0.5000]]])
    """

    A: Float[Tensor, "S M M"]
    W1: Float[Tensor, "S M L"]
    W2: Float[Tensor, "S L M"]
    h1: Float[Tensor, "S M"]
    h2: Float[Tensor, "S L"]

    def step(self, z: Float[Tensor, "S B M"]) -> Float[Tensor, "S B M"]:
        """One step of time."""
        hidden = torch.relu(torch.baddbmm(self.h2.unsqueeze(1), z, self.W2.mT))
        return torch.baddbmm(torch.baddbmm(self.h1.unsqueeze(1), z, self.A.mT), hidden, self.W1.mT)

    def regions(self, z: Float[Tensor, "S B M"]) -> Bool[Tensor, "S B L"]:
        """Which hidden units are on: the map is linear where they do not change."""
        return torch.baddbmm(self.h2.unsqueeze(1), z, self.W2.mT) > 0

    def jacobian(self, z: Float[Tensor, "S B M"]) -> Float[Tensor, "S B M M"]:
        """dz'/dz."""
        on = self.regions(z).to(z.dtype).unsqueeze(-2)
        return self.A.unsqueeze(1) + (self.W1.unsqueeze(1) * on) @ self.W2.unsqueeze(1)

    def member(self, i: int) -> "Shallow":
        """One member alone, in float64 as its analysis needs it."""
        return Shallow(*(part[i : i + 1].detach().double() for part in self))

"""Particles that walk through time, are weighed by what is seen, and multiply where they foresee it (Gordon, Salmond & Smith 1993)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def systematic(log_w: Float[Tensor, "G P"]) -> Int[Tensor, "G P"]:
    """P particles of each group, each as often as its weight says, within one (systematic resampling, Kitagawa 1996)."""
    many = log_w.shape[1]
    upto = torch.softmax(log_w, 1).cumsum(1)
    places = (torch.arange(many, device=log_w.device) + torch.rand(len(log_w), 1, device=log_w.device)) / many
    return torch.searchsorted(upto.contiguous(), places.to(upto)).clamp(max=many - 1)


class Ancestry:
    """What `many` particles drew for each of `members` and `batch` examples, step by step, and which of them went on.

    Where the draws are not asked for, they need not be `kept`. Particles of one example and one member compete; members are weighed against each other at the end.
    """

    def __init__(self, members: int, batch: int, many: int, like: Tensor, kept: bool = True):
        self.shape, self.kept = (members, batch, many), kept
        self.drawn: list[Tensor] = []  # of each step (S, B * P, N)
        self.chosen: list[Tensor | None] = []  # of each step, which particles went on; None: every one
        self.log_w = like.new_zeros(members * batch, many)
        self.log_p = like.new_zeros(members * batch)  # of what was seen so far, up to what log_w says
        self.variance = like.new_zeros(members * batch)  # of its estimate

    def grown(self, drawn: Float[Tensor, "S more N"], weight: Float[Tensor, "S more"]) -> Tensor | None:
        """Takes in what was drawn at a step and the log weights of the particles; (S, B * P) which of them go on, where some
        were too light."""
        members, batch, many = self.shape
        self.log_w = self.log_w + weight.reshape(members * batch, many)
        if self.kept:
            self.drawn.append(drawn)
        share = torch.softmax(self.log_w, 1)
        light = 1 / share.square().sum(1) <= 0.5 * many
        if not bool(light.any()):
            self.chosen += [None] * self.kept
            return None
        self._count(light)
        order = torch.arange(many, device=drawn.device).expand(members * batch, many).clone()
        order[light] = systematic(self.log_w[light])
        self.log_w[light] = 0.0
        first = many * torch.arange(batch, device=drawn.device).view(1, batch, 1)
        chosen = (order.view(members, batch, many) + first).flatten(1)
        self.chosen += [chosen] * self.kept
        return chosen

    def _count(self, groups: Tensor) -> None:
        many = self.shape[2]
        log_w = self.log_w[groups].double()
        self.log_p[groups] += (torch.logsumexp(log_w, 1) - torch.tensor(float(many)).log()).to(self.log_p)
        # The variance of a mean of weights, relative to it.
        self.variance[groups] += ((many * torch.softmax(log_w, 1).square().sum(1) - 1) / many).to(self.log_p)

    def finished(self, n: int, usable: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """n draws (n, B, T, N), log p(what was seen) (B,) of the equal mixture of `usable` members (S,), and its error (B,).

        The error adds up what every weighing leaves to chance. That particles which were multiplied go on alike it does not know,
        so that over many steps it is too small: at 100 of them it may be half of what it should be.
        """
        members, batch, many = self.shape
        within = torch.log_softmax(self.log_w, 1).view(members, batch, many)
        self._count(torch.ones_like(self.log_p, dtype=torch.bool))
        # What the others came to may be no number, which times a share of 0 is none either.
        unusable = ~usable.unsqueeze(1)
        within = within.masked_fill(unusable.unsqueeze(2), -torch.inf)
        variance = self.variance.view(members, batch).masked_fill(unusable, 0.0)
        log_p = self.log_p.view(members, batch).masked_fill(unusable, -torch.inf)
        mixed = torch.logsumexp(log_p, 0)
        share = (log_p - mixed).exp()
        error = (share.square() * variance).sum(0).sqrt()
        told = mixed - usable.sum().to(mixed).log()
        if not n:
            return told.new_zeros(0), told, error
        weights = (within + log_p.unsqueeze(2)).movedim(1, 0).flatten(1)  # (B, S * P)
        picked = torch.multinomial(torch.softmax(weights, 1), n, replacement=True)  # (B, n)
        member = (picked // many).flatten()
        place = (picked % many + many * torch.arange(batch, device=picked.device).unsqueeze(1)).flatten()
        path = []
        for drawn, chosen in zip(reversed(self.drawn), reversed(self.chosen), strict=True):
            place = place if chosen is None else chosen[member, place]
            path.append(drawn[member, place])
        draws = torch.stack(path[::-1], 1).unflatten(0, (batch, n)).transpose(0, 1)
        return draws, told, error

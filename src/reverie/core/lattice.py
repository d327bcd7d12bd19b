"""Entries that take one of finitely many values: tables of their log-probabilities, and draws from such tables."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def byte_values(like: Tensor) -> Float[Tensor, "256"]:
    """(256,) what a byte can be in model units, -1 to 1, in the dtype and on the device of `like`."""
    return torch.arange(256, dtype=like.dtype, device=like.device) / 127.5 - 1


def snap(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The nearest byte, in model units."""
    return torch.round((x.clamp(-1, 1) + 1) * 127.5) / 127.5 - 1


def draw_levels(log_p: Float[Tensor, "*entries levels"]) -> Int[Tensor, "*entries"]:
    """(*entries) the index of a value for each entry, by its row of log-probabilities, which need not be normalised.

    One uniform number for each entry finds its place among cumulative sums.

    >>> draw_levels(torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]))
    tensor([0, 1])
    """
    cumulative = torch.exp(log_p - log_p.amax(-1, keepdim=True)).cumsum(-1)
    total = cumulative[..., -1:]
    # Rounding up to the total would land beyond the last value that is possible.
    place = torch.minimum(torch.rand_like(total) * total, torch.nextafter(total, total.new_zeros(())))
    return torch.searchsorted(cumulative, place, right=True).squeeze(-1)


def logistic_table(
    loc: Float[Tensor, "..."], log_scale: Float[Tensor, "..."], logits: Float[Tensor, "..."], axis: int
) -> Float[Tensor, "... 256"]:
    """(*batch, *event, 256) nats of every byte under mixtures of logistics (*batch, M, *event), M along the negative `axis`.

    A bin's mass is S(b) - S(a) = S(b) S(-a) (1 - exp(a - b)), with S the logistic function at its two edges. Neighbours share an
    edge, so that 255 of them do for 256 bins, and no term is a difference of numbers close to each other.
    """
    inverse = torch.exp(-log_scale).unsqueeze(-1)
    edges = byte_values(loc)[:-1] + 1 / 255
    place = (edges - loc.unsqueeze(-1)) * inverse
    shared = F.logsigmoid(place.abs())
    below, above = shared + place.clamp(max=0), shared - place.clamp(min=0)  # log S(place), log S(-place)
    inside = below[..., 1:] + above[..., :-1] + torch.log(-torch.expm1(-2 / 255 * inverse))
    table = torch.cat([below[..., :1], inside, above[..., -1:]], -1)
    if loc.shape[axis] == 1:
        return table.squeeze(axis - 1)
    return torch.logsumexp(table + torch.log_softmax(logits, axis).unsqueeze(-1), axis - 1)

"""Entries that take one of finitely many values: tables of their log-probabilities, and draws from such tables."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def byte_values(like: Tensor) -> Float[Tensor, "256"]:
    """(256,) what a byte can be in model units, -1 to 1, in the dtype and on the device of `like`."""
    return torch.arange(256, dtype=like.dtype, device=like.device) / 127.5 - 1


def snap(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The nearest byte, in model units."""
    return torch.round((x.clamp(-1, 1) + 1) * 127.5) / 127.5 - 1


def draw_levels(log_p: Float[Tensor, "*entries levels"], n: int = 1) -> Int[Tensor, "*entries n"]:
    """(*entries, n) indices of values, drawn by each entry's row of log-probabilities, which need not be normalised.

    A uniform number finds its place among cumulative sums: forty times faster than a race of exponentials.

    >>> draw_levels(torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]]), 3)
    tensor([[0, 0, 0],
            [1, 1, 1]])
    """
    cumulative = torch.exp(log_p - log_p.amax(-1, keepdim=True)).cumsum(-1)
    total = cumulative[..., -1:].contiguous()
    u = torch.rand(*total.shape[:-1], n, dtype=total.dtype, device=total.device)
    # Rounding up to the total would land beyond the last value that is possible.
    return torch.searchsorted(cumulative, torch.minimum(u * total, torch.nextafter(total, 0 * total)), right=True)


def logistic_table(
    loc: Float[Tensor, "..."], log_scale: Float[Tensor, "..."], logits: Float[Tensor, "..."], axis: int
) -> Float[Tensor, "... 256"]:
    """(*batch, *event, 256) nats of every byte under mixtures of logistics (*batch, M, *event), M along the negative `axis`.

    A bin's mass is S(b) - S(a) = S(b) S(-a) (1 - exp(a - b)), with S the logistic function at its two edges. Neighbours share an
    edge, so that 255 of them do for 256 bins, and no term is a difference of numbers close to each other.
    """
    loc, log_scale, log_share = (part.movedim(axis, -1) for part in (loc, log_scale, torch.log_softmax(logits, axis)))
    shape, m = loc.shape[:-1], loc.shape[-1]
    entries = (part.reshape(-1, m, 1) for part in (loc, torch.exp(-log_scale), log_share))
    # Few at a time, so that what is computed stays in the processor's cache.
    parts = zip(*(part.split(max(1, 512 // m)) for part in entries), strict=True)
    return torch.cat([_logistic_rows(*part) for part in parts]).view(*shape, 256)


def _logistic_rows(loc: Tensor, inverse: Tensor, log_share: Tensor) -> Tensor:
    """(N, 256) for mixtures (N, M, 1)."""
    place = (byte_values(loc)[:-1] + 1 / 255 - loc) * inverse
    shared = -torch.log1p(torch.exp(-place.abs()))
    below, above = shared + place.clamp(max=0), shared - place.clamp(min=0)  # log S(place), log S(-place)
    inside = below[..., 1:] + above[..., :-1] + torch.log(-torch.expm1(-2 / 255 * inverse))
    table = torch.cat([below[..., :1], inside, above[..., -1:]], -1)
    return table.squeeze(1) if table.shape[1] == 1 else torch.logsumexp(table + log_share, 1)

"""Have the chains forgotten where they began? The rank-normalised split R-hat (Vehtari, Gelman, Simpson, Carpenter &
Bürkner 2021, arXiv 1903.08008)."""

import torch
from jaxtyping import Float
from torch import Tensor


def r_hat(trace: Float[Tensor, "chains steps *quantities"]) -> Float[Tensor, "*quantities"]:
    """How much further chains spread together than each alone, of their location and of their spread: near 1, at most
    1.01 by the authors' advice, once they agree. Each chain is cut into halves, so that one that drifts disagrees with itself.

    inf where no chain moves and they differ; NaN where nothing ever differs, or with fewer than 4 steps.

    >>> r_hat(torch.arange(8.0).expand(2, 8)) > 1.5  # two chains that walk away
    tensor(True)
    """
    half = trace.shape[1] // 2
    if half < 2:
        return trace.new_full(trace.shape[2:], torch.nan)
    halves = torch.cat([trace[:, :half], trace[:, -half:]]).double()
    x = halves.view(*halves.shape[:2], -1)  # (2 chains, half, quantities)
    folded = (x - x.flatten(0, 1).median(0).values).abs()
    both = torch.maximum(_spread(_normal_scores(x)), _spread(_normal_scores(folded)))
    return both.to(trace.dtype).view(trace.shape[2:])


def _normal_scores(x: Tensor) -> Tensor:
    """Every number's rank among all of its quantity, ties sharing theirs, as a quantile of the standard normal."""
    flat = x.flatten(0, 1).T.contiguous()  # (quantities, draws)
    ordered = flat.sort(1).values
    rank = (torch.searchsorted(ordered, flat) + torch.searchsorted(ordered, flat, right=True) + 1) / 2
    return torch.special.ndtri((rank - 0.375) / (flat.shape[1] + 0.25)).T.view_as(x)


def _spread(x: Tensor) -> Tensor:
    steps = x.shape[1]
    within, between = x.var(1).mean(0), x.mean(1).var(0)
    return torch.sqrt((steps - 1) / steps + between / within)

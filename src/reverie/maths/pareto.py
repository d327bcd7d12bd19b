"""How heavy the tail of importance weights is: the shape of the generalised Pareto law that fits the largest of them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def tail_length(k: int) -> int:
    """How many of k weights count as their tail (Vehtari et al. 2015, arXiv 1507.02646)."""
    return min(k // 5, math.ceil(3 * math.sqrt(k)))


def pareto_k(log_w: Float[Tensor, "B M1"]) -> Float[Tensor, " B"]:
    """The shape of the tail, from the M + 1 largest log-weights (B, M + 1) of each example, largest first.

    Below 0.5 the weights have a variance; above 0.7 their mean is not to be trusted at any
    practical number of draws; above 1 they have no mean. NaN where M < 5. The fit is that of Zhang & Stephens (2009,
    Technometrics 51), drawn towards 0.5 by ten pseudo-observations as Vehtari et al. do.

    >>> draws = torch.distributions.Pareto(1.0, torch.tensor(2.0)).icdf((torch.arange(20_000) + 0.5) / 20_000)
    >>> round(pareto_k(draws.log().flip(0)[None, :426]).item(), 1)
    0.5
    """
    m = log_w.shape[1] - 1
    if m < 5:
        return log_w.new_full(log_w.shape[:1], math.nan)
    w = torch.exp(log_w.double() - log_w[:, :1].double()).flip(1)
    # Ties at the threshold, as with weights that are all equal, would have the law begin at its end.
    x = (w[:, 1:] - w[:, :1]).clamp(min=1e-15)  # (B, M) ascending
    # Profile likelihood on a grid of b, where the law has density proportional to (1 - b x)^(-1/k - 1).
    points = 30 + int(math.sqrt(m))
    grid = 1 - torch.sqrt(points / (torch.arange(points, dtype=x.dtype, device=x.device) + 0.5))
    b = grid / (3 * x[:, m // 4 : m // 4 + 1]) + 1 / x[:, -1:]  # (B, points)
    shape = torch.log1p(-b.unsqueeze(-1) * x.unsqueeze(1)).mean(-1)
    profile = m * (torch.log(-b / shape) - shape - 1)
    b = (torch.softmax(profile, 1) * b).sum(1, keepdim=True)
    fitted = torch.log1p(-b * x).mean(1)
    return ((m * fitted + 10 * 0.5) / (m + 10)).to(log_w.dtype)

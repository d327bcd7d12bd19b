"""The prior that is made of what the recognition model says about a few invented examples."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reverie.core.distributions import Distribution, Gaussian
from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.nets.priors.mixtures import MixturePrior


class VampPrior(MixturePrior):
    """p(z) = 1/K sum_k q(z | u_k), a mixture of variational posteriors, whose pseudo-inputs u_k are learned by gradient
    (Tomczak & Welling 2018, arXiv 1705.07120).

    The prior that costs the bound least is the aggregate of q(z|x) over the data; this is an aggregate over K examples
    that the model makes up. All weigh the same, as all data do: where more weight is needed, pseudo-inputs move
    together, while with learned weights those of little weight would get little gradient and never return.

    `perceive`, which the model sets, takes pseudo-inputs (K, *shape) to q(z|u), a diagonal Gaussian. A bound method
    of the model is meant: it is no submodule, and in a deep copy of the model it is the method of the copy.

    >>> vamp = VampPrior(3, Space((2,), "real"))
    >>> vamp.perceive = lambda x: Gaussian(x, torch.zeros_like(x))
    >>> vamp.sample(5).shape
    torch.Size([5, 2])
    """

    perceive: Callable[[Tensor], Distribution] | None

    def __init__(self, components: int, space: Space):
        super().__init__()
        if space.kind == "mixed":
            raise BadInput("a vamp prior cannot invent rows of a mixed table; use --model.prior mixture or flow")
        self.kind = space.kind
        self.raw = nn.Parameter(torch.randn(components, *space.shape))
        self.perceive = None
        self._seen: tuple[list[Tensor], tuple[bool, bool], Gaussian] | None = None

    @property
    def inputs(self) -> Float[Tensor, "K *shape"]:
        """The pseudo-inputs, in model units, always within the range of their kind.

        Smooth maps lead there (the paper cuts at 0 and 1): an entry beyond a cut has no gradient and stays there.
        """
        if self.kind == "bit":
            return torch.sigmoid(self.raw)
        if self.kind == "byte":
            return torch.tanh(self.raw)
        return F.softplus(self.raw) if self.kind == "count" else self.raw

    @torch.no_grad()
    def start(self, x: Float[Tensor, "N *shape"], noise: float = 0.1) -> None:
        """Puts the pseudo-inputs at the first K examples, over again where there are fewer, plus noise.

        `noise` is in units of the unbounded numbers behind the pseudo-inputs. It parts those that start
        from the same example.
        """
        if self.kind == "bit":
            raw = torch.logit(x, eps=0.02)  # not quite 0 or 1, which are infinitely far away
        elif self.kind == "byte":
            raw = torch.atanh(0.96 * x)
        elif self.kind == "count":
            rate = x.clamp(min=0.05)
            raw = rate + torch.log(-torch.expm1(-rate))
        else:
            raw = x
        raw = raw.to(self.raw)[torch.arange(len(self.raw)) % len(raw)]
        self.raw.copy_(raw + noise * torch.randn_like(raw))

    def parts(self) -> tuple[Gaussian, Tensor]:
        q = self._encodings()
        return q, q.loc.new_full((len(q.loc),), -math.log(len(q.loc)))

    def _encodings(self) -> Gaussian:
        """q(z|u), computed anew only where gradients are wanted or anything that it depends on has changed."""
        owner = getattr(self.perceive, "__self__", self.perceive)
        if not isinstance(owner, nn.Module):
            return self._encoded()  # nobody knows what it depends on
        tensors = [self.raw, *owner.parameters(), *owner.buffers()]
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            return self._encoded()
        # Whether a tensor has changed is read off its content: fused optimisers do not count as a new version of it.
        mode = owner.training, torch.is_inference_mode_enabled()
        if self._seen is None or self._seen[1] != mode or not _same(self._seen[0], tensors):
            self._seen = [t.detach().clone() for t in tensors], mode, self._encoded()
        return self._seen[2]

    def _encoded(self) -> Gaussian:
        if self.perceive is None:
            raise RuntimeError("a vamp prior needs its model's recognition; set `perceive`")
        q = self.perceive(self.inputs)
        if not isinstance(q, Gaussian):
            raise BadInput("a vamp prior needs a Gaussian q(z|x); use --model.posterior gaussian, or another prior")
        return q


def _same(before: list[Tensor], now: list[Tensor]) -> bool:
    return len(before) == len(now) and all(
        a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in zip(before, now, strict=True)
    )

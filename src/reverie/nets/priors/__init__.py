"""What a model takes for granted before it sees anything: p(z)."""

from typing import Literal

from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.nets.priors.flow import FlowPrior
from reverie.nets.priors.gaussian import LearnedGaussian, Prior, StandardNormal
from reverie.nets.priors.mixtures import FittedMixture, LearnedMixture, MixturePrior
from reverie.nets.priors.vamp import VampPrior

__all__ = [
    "FittedMixture",
    "FlowPrior",
    "LearnedGaussian",
    "LearnedMixture",
    "MixturePrior",
    "Prior",
    "StandardNormal",
    "VampPrior",
    "prior",
]


def prior(
    name: Literal["normal", "gaussian", "fitted", "mixture", "vamp", "flow"],
    latent: int,
    components: int,
    closeness: float,
    space: Space | None = None,
) -> Prior:
    """The prior of that name over `latent` numbers.

    `components`: how many Gaussians the three mixtures have. `closeness` is of the fitted one. `space` is what
    the pseudo-inputs of the vamp prior are examples of; its `perceive` is for the model to set.

    >>> prior("mixture", latent=2, components=10, closeness=0.5).mean.shape
    torch.Size([2])
    """
    if name == "normal":
        return StandardNormal(latent)
    if name == "gaussian":
        return LearnedGaussian(latent)
    if name == "fitted":
        return FittedMixture(latent, components, closeness)
    if name == "mixture":
        return LearnedMixture(latent, components)
    if name == "flow":
        return FlowPrior(latent)
    if space is None:
        raise BadInput("a vamp prior invents examples; say of what space")
    return VampPrior(components, space)

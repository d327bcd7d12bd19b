"""What any model can do that has the smaller abilities it is made of."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reverie.core.distributions import Distribution
from reverie.core.errors import BadInput
from reverie.core.model import Decodes, Dreams, Encodes, Model, Morphs


@torch.no_grad()
def dream(model: Model, n: int, given: Tensor | None = None, exact: bool = False) -> Float[Tensor, "n *shape"]:
    """(n, *shape) dreams in model units.

    A model that decodes latents shows what it has in mind, the mean of p(x|z) at z ~ p(z), unless
    `exact`: then, as for every other model, a draw from p(x), which has the grain of p(x|z) on it.
    """
    if not exact and isinstance(model, Dreams):
        return model.dream(n, given)
    prior = getattr(model, "prior", None)
    if exact or prior is None or not isinstance(model, Decodes):
        return model.sample(n, given)
    return model.decode(prior.sample(n), model.labels(n, given)).mean


def perceive(model: Model, x: Float[Tensor, "B *shape"], given: Int[Tensor, " B"] | None = None) -> Distribution:
    """q(z|x), of a model with `classes` given the labels (B,) of x; BadInput for a model that cannot perceive."""
    if not isinstance(model, Encodes):
        raise BadInput(f"{type(model).__name__} cannot perceive: it has no latent; use a vae, ladder or linear run")
    return model.encode(x, given=given) if model.classes else model.encode(x)  # type: ignore[call-arg]


@torch.no_grad()
def morph(
    model: Model,
    a: Float[Tensor, "B *shape"],
    b: Float[Tensor, "B *shape"],
    steps: int,
    given: tuple[Int[Tensor, " B"], Int[Tensor, " B"]] | None = None,
) -> Float[Tensor, "steps B *shape"]:
    """(steps, B, *shape): what lies on the straight way in z between the examples a and b (B, *shape).

    The ends are the model's own idea of a and b. `given`: their labels, for a model with `classes`; the label changes
    half way. Raises BadInput for a model that cannot perceive.
    """
    if isinstance(model, Morphs):
        return model.morph(a, b, steps)
    if not (isinstance(model, Encodes) and isinstance(model, Decodes)):
        raise BadInput(
            f"{type(model).__name__} cannot morph: it has no latent to walk through; use a vae or linear run"
        )
    first, last = given if given is not None else (None, None)
    start, end = perceive(model, a, first).mean, perceive(model, b, last).mean
    way = torch.linspace(0, 1, steps).tolist()
    return torch.stack([model.decode(torch.lerp(start, end, t), first if t < 0.5 else last).mean for t in way])


@torch.no_grad()
def traverse(
    model: Model,
    z: Float[Tensor, " Z"],
    directions: Float[Tensor, "n Z"],
    reach: float = 3.0,
    steps: int = 7,
    given: int = 0,
) -> Float[Tensor, "n steps *shape"]:
    """(directions, steps, *shape): p(x|z) means along each direction (n, Z) through z (Z,), from -reach to +reach;
    of a model with `classes`, all with the one label that is given."""
    if not isinstance(model, Decodes):
        raise BadInput(f"{type(model).__name__} has no latent directions; use a vae or linear run")
    way = torch.linspace(-reach, reach, steps).view(1, -1, 1)
    grid = z + way * directions[:, None, :]
    labels = torch.full((grid.shape[:2].numel(),), given, device=z.device) if model.classes else None
    return model.decode(grid.flatten(0, 1), labels).mean.unflatten(0, grid.shape[:2])


@torch.no_grad()
def main_directions(
    model: Model, x: Float[Tensor, "B *shape"], n: int, given: Int[Tensor, " B"] | None = None
) -> tuple[Float[Tensor, " Z"], Float[Tensor, "k Z"]]:
    """The centre (Z,) and the n principal directions (n, Z) of what the model perceives in x, one standard deviation long."""
    z = perceive(model, x, given).mean
    centre = z.mean(0)
    _, spread, axes = torch.linalg.svd(z - centre, full_matrices=False)
    n = min(n, len(axes))
    return centre, axes[:n] * (spread[:n, None] / len(z) ** 0.5)

"""What any model can do that has the smaller abilities it is made of."""

import torch
from jaxtyping import Float
from torch import Tensor

from reverie.core.errors import BadInput
from reverie.core.model import Decodes, Encodes, Model


@torch.no_grad()
def dream(model: Model, n: int, given: Tensor | None = None, exact: bool = False) -> Float[Tensor, "n *shape"]:
    """(n, *shape) dreams in model units.

    A model that decodes latents shows what it has in mind, the mean of p(x|z) at z ~ p(z), unless
    `exact`: then, as for every other model, a draw from p(x), which has the grain of p(x|z) on it.
    """
    prior = getattr(model, "prior", None)
    if exact or prior is None or not isinstance(model, Decodes):
        return model.sample(n, given)
    return model.decode(prior.sample(n)).mean


@torch.no_grad()
def morph(
    model: Model, a: Float[Tensor, "B *shape"], b: Float[Tensor, "B *shape"], steps: int
) -> Float[Tensor, "steps B *shape"]:
    """(steps, B, *shape): what lies on the straight way in z between the examples a and b (B, *shape).

    The ends are the model's own idea of a and b. Raises BadInput for a model that cannot perceive.
    """
    if not (isinstance(model, Encodes) and isinstance(model, Decodes)):
        raise BadInput(
            f"{type(model).__name__} cannot morph: it has no latent to walk through; use a vae or linear run"
        )
    start, end = model.encode(a).mean, model.encode(b).mean
    return torch.stack([model.decode(torch.lerp(start, end, t)).mean for t in torch.linspace(0, 1, steps).tolist()])


@torch.no_grad()
def traverse(
    model: Model, z: Float[Tensor, " Z"], directions: Float[Tensor, "n Z"], reach: float = 3.0, steps: int = 7
) -> Float[Tensor, "n steps *shape"]:
    """(directions, steps, *shape): p(x|z) means along each direction (n, Z) through z (Z,), from -reach to +reach."""
    if not isinstance(model, Decodes):
        raise BadInput(f"{type(model).__name__} has no latent directions; use a vae or linear run")
    way = torch.linspace(-reach, reach, steps).view(1, -1, 1)
    grid = z + way * directions[:, None, :]
    return model.decode(grid.flatten(0, 1)).mean.unflatten(0, grid.shape[:2])


@torch.no_grad()
def main_directions(
    model: Model, x: Float[Tensor, "B *shape"], n: int
) -> tuple[Float[Tensor, " Z"], Float[Tensor, "k Z"]]:
    """The centre (Z,) and the n principal directions (n, Z) of what the model perceives in x, one standard deviation long."""
    if not isinstance(model, Encodes):
        raise BadInput(f"{type(model).__name__} has no latent directions; use a vae or linear run")
    z = model.encode(x).mean
    centre = z.mean(0)
    _, spread, axes = torch.linalg.svd(z - centre, full_matrices=False)
    n = min(n, len(axes))
    return centre, axes[:n] * (spread[:n, None] / len(z) ** 0.5)

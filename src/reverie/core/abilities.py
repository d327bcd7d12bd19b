"""What any model can do that has the smaller abilities it is made of."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from reverie.core.distributions import Distribution
from reverie.core.errors import BadInput
from reverie.core.model import Decodes, Dreams, Encodes, Model, Styled

SEEN = 1000  # examples that tell the main directions


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
def seek(
    model: Model, x: Float[Tensor, "B *shape"], given: Int[Tensor, " B"] | None = None
) -> Float[Tensor, "B *point"]:
    """(B, *point): where examples x (B, *shape) lie in the space that the model has of its own, its latent or its styles.
    BadInput for a model that has none."""
    if isinstance(model, Styled):
        return model.invert(x)
    if not isinstance(model, Encodes):
        raise _no_space(model)
    return perceive(model, x, given).mean


@torch.no_grad()
def show(model: Model, points: Float[Tensor, "B *point"], given: Int[Tensor, " B"] | None = None) -> Tensor:
    """(B, *shape): what the model makes of points of its own space."""
    if isinstance(model, Styled):
        return model.imagine(points)
    if not isinstance(model, Decodes):
        raise _no_space(model)
    return model.decode(points, given).mean


def _no_space(model: Model) -> BadInput:
    return BadInput(f"{type(model).__name__} has no space of its own to walk through; use a vae, gan or linear run")


@torch.no_grad()
def morph(
    model: Model,
    a: Float[Tensor, "B *shape"],
    b: Float[Tensor, "B *shape"],
    steps: int,
    given: tuple[Int[Tensor, " B"], Int[Tensor, " B"]] | None = None,
) -> Float[Tensor, "steps B *shape"]:
    """(steps, B, *shape): what lies on the straight way between the examples a and b (B, *shape), in the model's own space.

    The ends are the model's own idea of a and b. `given`: their labels, for a model with `classes`; the label changes
    half way. Raises BadInput for a model that has no such space.
    """
    first, last = given if given is not None else (None, None)
    start, end = seek(model, a, first), seek(model, b, last)
    way = torch.linspace(0, 1, steps).tolist()
    return torch.stack([show(model, torch.lerp(start, end, t), first if t < 0.5 else last) for t in way])


@torch.no_grad()
def traverse(
    model: Model,
    point: Float[Tensor, " *point"],
    directions: Float[Tensor, "n *point"],
    reach: float = 3.0,
    steps: int = 7,
    given: int = 0,
) -> Float[Tensor, "n steps *shape"]:
    """(directions, steps, *shape): what the model makes of the way along each direction through a point of its own space,
    from -reach to +reach; of a model with `classes`, all with the one label that is given."""
    way = torch.linspace(-reach, reach, steps, device=point.device).view(1, -1, *[1] * point.dim())
    grid = (point + way * directions.unsqueeze(1)).flatten(0, 1)
    labels = torch.full((len(grid),), given, device=point.device) if model.classes else None
    return show(model, grid, labels).unflatten(0, (len(directions), steps))


@torch.no_grad()
def main_directions(
    model: Model, x: Float[Tensor, "B *shape"], n: int, given: Int[Tensor, " B"] | None = None
) -> tuple[Float[Tensor, " *point"], Float[Tensor, "k *point"]]:
    """The centre (*point) of where the examples x lie in the model's own space, and the n directions (n, *point) in which they
    differ most there, one standard deviation long.

    A model that would have to seek each of them draws as many points instead, always the same ones, and the directions are those in which what
    it makes of them differs most: principal components of dreams, and for each the mean shift of the points that goes
    with it (Härkönen, Hertzmann, Lehtinen & Paris 2020, arXiv 2004.02546, as they do where points come from a Gaussian).
    """
    if isinstance(model, Styled):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            points = model.styles(len(x))
            made = model.imagine(points).flatten(1)
    else:
        points = perceive(model, x, given).mean
        made = points.flatten(1)
    centre = points.mean(0)
    how, spread, _ = torch.linalg.svd(made - made.mean(0), full_matrices=False)
    n = min(n, int((spread > 1e-6 * spread[:1]).sum()), points[0].numel())
    # Columns of `how` have length 1: as coordinates of standard deviation 1 they are longer by the root of their number.
    shifts = how[:, :n].T @ (points - centre).flatten(1) / len(points) ** 0.5
    return centre, shifts.unflatten(1, points.shape[1:])

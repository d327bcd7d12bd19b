"""The families. A new one is one file here and one word in MODELS."""

from typing import Any

from reverie.core.model import Model
from reverie.core.space import Space
from reverie.models.cohort import Cohort
from reverie.models.gan import GAN
from reverie.models.helmholtz import Helmholtz
from reverie.models.ladder import LadderVAE
from reverie.models.linear import Linear
from reverie.models.noise import Independent, Noise
from reverie.models.per_class import PerClass
from reverie.models.recurrent import Recurrent
from reverie.models.vae import VAE

MODELS: dict[str, type[Model]] = {
    "noise": Noise,
    "independent": Independent,
    "linear": Linear,
    "vae": VAE,
    "ladder": LadderVAE,
    "helmholtz": Helmholtz,
    "gan": GAN,
    "recurrent": Recurrent,
    "cohort": Cohort,
}


def made(name: str, config: Any, space: Space, per_class: int = 0) -> Model:
    """A model of that family, before it has learned; or one for each of `per_class` labels, together."""
    return PerClass(MODELS[name], config, space, per_class) if per_class else MODELS[name](config, space)

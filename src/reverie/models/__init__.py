"""The families. A new one is one file here and one word in MODELS."""

from reverie.core.model import Model
from reverie.models.helmholtz import Helmholtz
from reverie.models.ladder import LadderVAE
from reverie.models.linear import Linear
from reverie.models.noise import Independent, Noise
from reverie.models.vae import VAE

MODELS: dict[str, type[Model]] = {
    "noise": Noise,
    "independent": Independent,
    "linear": Linear,
    "vae": VAE,
    "ladder": LadderVAE,
    "helmholtz": Helmholtz,
}

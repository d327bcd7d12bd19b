"""What a critic and a generator play: losses of the critic's judgements, and penalties on how steeply it judges.

Everywhere a critic is high where it takes an example for real. Goodfellow et al. 2014 (arXiv 1406.2661) have it so;
the equations of Mescheder, Geiger & Nowozin 2018 (arXiv 1801.04406) and of Huang et al. 2024 (arXiv 2501.05441) are for
-D, which changes the sign of what is in them and nothing else.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class Game(ABC):
    """What each side lowers, () nats, from the critic's judgements of real and of dreamt examples (B,) each."""

    @abstractmethod
    def critic(self, real: Float[Tensor, " B"], fake: Float[Tensor, " B"]) -> Float[Tensor, ""]: ...

    @abstractmethod
    def generator(self, real: Float[Tensor, " B"], fake: Float[Tensor, " B"]) -> Float[Tensor, ""]: ...


class Relativistic(Game):
    """The critic says which of a pair is real, the generator wants it to be wrong,

        E softplus(-(D(x) - D(G(z))))  and  E softplus(-(D(G(z)) - D(x)))

    (Jolicoeur-Martineau 2018, arXiv 1807.00734). To lose a mode is never a way out: every dream is held against
    real ones. Under the best critic of p and q its loss is log 2 - JS(p(x) q(y), q(x) p(y)).

    >>> Relativistic().critic(torch.zeros(3), torch.zeros(3))
    tensor(0.6931)
    """

    def critic(self, real: Float[Tensor, " B"], fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        return F.softplus(fake - real).mean()

    def generator(self, real: Float[Tensor, " B"], fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        return F.softplus(real - fake).mean()


class NonSaturating(Game):
    """The classic game: the critic tells real from dreamt one by one, the generator raises log sigmoid(D(G(z)))
    (Goodfellow et al. 2014, arXiv 1406.2661). Under the best critic of p and q its loss is 2 log 2 - 2 JS(p, q).

    >>> NonSaturating().critic(torch.zeros(3), torch.zeros(3))
    tensor(1.3863)
    """

    def critic(self, real: Float[Tensor, " B"], fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, real: Float[Tensor, " B"], fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        return F.softplus(-fake).mean()


class Hinge(Game):
    """The critic wants real examples above 1 and dreams below -1, and no more; the generator raises D(G(z))
    (Lim & Ye 2017, arXiv 1705.02894). Under the best critic of p and q its loss is 2 - 2 TV(p, q).

    >>> Hinge().critic(torch.tensor([1.0, 2.0]), torch.tensor([-1.0, 0.0]))
    tensor(0.5000)
    """

    def critic(self, real: Float[Tensor, " B"], fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, real: Float[Tensor, " B"], fake: Float[Tensor, " B"]) -> Float[Tensor, ""]:
        return -fake.mean()


GAMES: dict[str, Game] = {"relativistic": Relativistic(), "classic": NonSaturating(), "hinge": Hinge()}


def slopes(judged: Float[Tensor, " B"], x: Float[Tensor, "B *shape"]) -> Float[Tensor, " B"]:
    """|∇D(x)|² of each example, summed over its entries, where D(x) `judged` x; a penalty is half γ times its mean.

    At real examples it is R1, at dreams R2 (Mescheder et al. 2018). A judgement must depend on its own example alone.
    """
    (gradient,) = torch.autograd.grad(judged.sum(), x, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def critic_loss(
    game: Game,
    critic: Callable[[Tensor], Tensor],
    real: Float[Tensor, "B *shape"],
    fake: Float[Tensor, "B *shape"],
    gamma_real: float,
    gamma_fake: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """() the game + γ/2 E|∇D(x)|² + γ'/2 E|∇D(G(z))|², which the critic lowers, and () the game alone, in nats.

    Through `fake` nothing reaches the generator. Where gradients are off, as in validation, both are the game.
    """
    both = torch.cat([real.detach(), fake.detach()]).requires_grad_()
    judged = critic(both)
    played = game.critic(*judged.chunk(2))
    if not (gamma_real or gamma_fake) or not torch.is_grad_enabled():
        return played, played.detach()
    of_real, of_fake = slopes(judged, both).chunk(2)
    return played + 0.5 * (gamma_real * of_real.mean() + gamma_fake * of_fake.mean()), played.detach()

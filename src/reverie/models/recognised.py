"""Learning by a recogniser: what pulls the states is not what was seen, but drawn from a belief about what lies behind it."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.models.innovations import Innovations
from reverie.nets.recogniser import Recogniser
from reverie.nets.recurrence import Forcing

WANDER = 0.2  # deviation of z from what was expected of it, at the start


class Recognition(nn.Module):
    """Sequential variational inference. While it learns the machine is a state space model of latents z and what is seen of them,

        z_1 ~ N(0, spread_1),  z_t = e_t + N(0, spread),  x_t ~ p(x_t | z_t),  e_{t+1} = F(e_t + alpha (z_t - e_t)) + C s_{t+1},

    with e_2 = F(z_1): what is expected, e_t, is a function of the latents before t, so this is a normalised p(x, z) for every alpha.
    For alpha = 1 it is the stochastic dynamics z_{t+1} = F(z_t) + noise (Durstewitz 2017); below it each z_t pulls as in
    generalised teacher forcing, so that neither orbits nor gradients run away, and the noise of beliefs is averaged over
    steps: the model in which multimodal teacher forcing (Brenner, Hess, Koppe & Durstewitz 2024, arXiv 2212.07892) is exact. With an amortised
    q(z | x) = prod_t q(z_t | x_{t-L} … x_{t+L}) (Archer, Park, Buesing, Cunningham & Paninski 2015, arXiv 1511.07367)

        log p(x) >= E_q sum_t [log p(x_t | z_t) - KL(q(z_t | x) || N(e_t, spread))],

    by one draw of z, the divergence in closed form. Its gradient is the true one: what reaches q through all later e goes
    backwards through the sweep, one product more. Multimodal teacher forcing adds sum_t log p(x_t | e_t), what the machine
    foretells when it is used; `Recurrent.phases` does too, but only the bound is told.
    """

    def __init__(self, members: int, latent: int, channels: int, inputs: int, heeded: int):
        super().__init__()
        self.recogniser = Recogniser(members, latent, channels, inputs, heeded)
        start = torch.tensor([0.0, math.log(WANDER)]).view(2, 1, 1, 1)
        self.log_spread = nn.Parameter(start.expand(2, members, 1, latent).transpose(0, 1).contiguous())  # (S, 2, 1, M)

    def forward(
        self,
        machine: Innovations,
        x: Float[Tensor, "T members B N"],
        observed: Bool[Tensor, "T members B N"] | None,
        inputs: Float[Tensor, "T members B K"] | None,
        alpha: float,
    ) -> tuple[Float[Tensor, "T S B M"], Float[Tensor, " S"]]:
        """What is expected at each step, and what lowering raises the bound: its negative in nats, the mean over examples."""
        q = self.recogniser(machine.seen.linked(x), observed, inputs)
        z = q.sample()
        expected = self.expected(machine, z, inputs, alpha)
        log_spread = self.log_spread.transpose(0, 1)[torch.arange(len(x)).clamp(max=1)]  # (T, S, 1, M)
        apart = (q.mean - expected).square() + (2 * q.log_scale).exp()
        divergence = (log_spread - q.log_scale + 0.5 * (apart * (-2 * log_spread).exp() - 1)).sum(-1)
        return expected, (divergence - machine.seen(z).log_prob(x, observed)).sum(0).mean(-1)

    @staticmethod
    def expected(
        machine: Innovations, z: Float[Tensor, "T S B M"], inputs: Tensor | None, alpha: float
    ) -> Float[Tensor, "T S B M"]:
        """e, of each step from the latents z before it."""
        weight = z.new_full((len(z), 1, 1, 1), alpha)
        weight[0] = 1  # nothing is expected of the first
        drive = None if inputs is None or machine.C is None else inputs[1:] @ machine.C
        start = torch.zeros_like(z[0])
        later = machine.cell.orbit(start, len(z) - 1, Forcing(z[:-1], weight[:-1]), drive)
        return torch.cat([start.unsqueeze(0), later])

    @torch.no_grad()
    def guess(
        self, machine: Innovations, x: Tensor, observed: Tensor | None, inputs: Tensor | None
    ) -> Float[Tensor, "S R more"]:
        """What the units that are seen tell of the others at the first step, by least squares over what is believed of it."""
        first = self.recogniser(machine.seen.linked(x), observed, inputs).mean[0]
        seen, others = first[..., : machine.seen.reach], first[..., machine.seen.reach :]
        found: Tensor = torch.linalg.pinv(seen) @ others
        return found

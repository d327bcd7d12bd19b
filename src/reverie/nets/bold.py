"""What a scanner sees of a brain's states: their past, blurred by the haemodynamic response, and movements of the head."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.distributions import Factorised, Gaussian
from reverie.core.errors import BadInput
from reverie.core.space import Space
from reverie.nets.modalities import RealModality, average
from reverie.nets.observations import AffineObservation

RESPONSE = 32.0  # seconds, after which nothing is left of it
TIMES = (0.05, 10.0)  # seconds between two volumes that can be meant
MEMORIES = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # of sources, from step to step, of which the likeliest is taken
NOISES = (0.01, 0.03, 0.1, 0.3, 1.0)  # variances beside what is blurred, likewise
NEVER = 1e6  # variance of what was not seen


def haemodynamic_response(tr: float) -> Float[Tensor, " L"]:
    """The canonical response at 0, tr, 2 tr … seconds after a moment of activity, of sum 1: a gamma density that peaks at 5 s
    less a sixth of one that peaks at 15 s, t^5 e^-t / 5! - t^15 e^-t / (6 15!) (two gammas: Friston et al. 1998; Glover 1999; these
    are the usual parameters of SPM).

    >>> haemodynamic_response(1.0).argmax(), len(haemodynamic_response(2.0))
    (tensor(5), 17)
    """
    # On the meta device, on which a run is first made, nothing could be asked for its peak.
    t = torch.arange(0.0, RESPONSE + 1e-9, tr, dtype=torch.float64, device="cpu")
    rise, fall = (torch.xlogy(k - 1, t) - t - math.lgamma(k) for k in (6.0, 16.0))
    response = rise.exp() - fall.exp() / 6
    return response / response.sum()


def blur(kernel: Float[Tensor, " L"], path: Float[Tensor, "more S B R"]) -> Float[Tensor, "T S B R"]:
    """sum_k h_k z_{t-k}, at all steps of a path but the first L - 1."""
    return path.unfold(0, len(kernel), 1) @ kernel.flip(0)


class BoldObservation(AffineObservation):
    """x_t = sum_k h_k z_{t-k} B + b + r_t J + noise of one deviation a channel: states convolved with the haemodynamic response h,
    and nuisance regressors r, as the movements of the head (Koppe, Toutounji, Kirsch, Lis & Durstewitz 2019, arXiv 1902.07186).

    A step says most of the states some seconds before it. So what pulls is not what was seen, but its sources: the series that was
    blurred, y with x - b - r J = h * y + noise, as a Wiener filter guesses it (the mean of y given x, where each channel of y is a
    Gaussian process that forgets exponentially). Volkmann, Brändle, Durstewitz & Koppe 2024 (arXiv 2411.02949) force such models by
    deconvolved series. From all of x while learning; else from what was seen so far (`following.Late`).

    A single 1 for h is the plain affine Gaussian observation. The law of states is that of such as are blurred already, or have stood still for
    long.
    """

    kernel: Tensor  # (L,) h
    memory: Tensor  # () what a source keeps of itself from step to step
    noise: Tensor  # () variance of the noise beside that of what is blurred

    def __init__(self, members: int, latent: int, channels: int, kernel: Float[Tensor, " L"], nuisance: int = 0):
        super().__init__(members, latent, RealModality(members, channels))
        self.J = nn.Parameter(torch.zeros(members, nuisance, channels)) if nuisance else None
        self.taps, self.lag = len(kernel), int(kernel.argmax())
        self.register_buffer("kernel", kernel.to(self.readout))
        self.register_buffer("memory", torch.tensor(0.9))
        self.register_buffer("noise", torch.tensor(0.1 if self.taps > 1 else 0.0))  # what is not blurred is not guessed

    @property
    def blurs(self) -> bool:
        return self.taps > 1

    def felt(self, states: Tensor, before: Tensor | None = None) -> Float[Tensor, "T S B R"]:
        """The states of a path, blurred; the first of those `before` it (K, S, B, M) has stood still for long."""
        states = states[..., : self.reach]
        before = states[:1] if before is None else before[..., : self.reach]
        still = before[:1].expand(max(self.taps - 1 - len(before), 0), -1, -1, -1)
        return blur(self.kernel, torch.cat([still, before[len(before) + len(still) - self.taps + 1 :], states]))

    def disturbed(self, law: Factorised, nuisance: Tensor | None) -> Factorised:
        if nuisance is None or self.J is None:
            return law
        assert isinstance(law, Gaussian)
        return Gaussian(law.mean + nuisance @ self.J, law.log_scale)

    def undisturbed(self, x: Tensor, nuisance: Tensor | None) -> Tensor:
        """x (…, S or 1, B, N) without what is no activity, b + r J."""
        x = x - self.bias.detach()
        return x if nuisance is None or self.J is None else x - nuisance @ self.J.detach()

    def units(self, y: Float[Tensor, "*T S B N"]) -> Float[Tensor, "*T S B R"]:
        """The states of sources, without b."""
        return y @ torch.linalg.pinv(self.readout.detach())

    @torch.no_grad()
    def sources(
        self, x: Tensor, observed: Tensor | None, nuisance: Tensor | None = None
    ) -> tuple[Float[Tensor, "T S B N"], None, Float[Tensor, "before S B R"]]:
        """What x (T, S or 1, B, N) was blurred from, b added, known everywhere; and the states before it."""
        seen = self.undisturbed(x, nuisance)
        if observed is None:
            guess, lower = self.filter(len(x))
            y = torch.einsum("et,t...->e...", guess @ torch.linalg.inv(lower), seen.double())
        else:
            guess, lower = self.filter(len(x), observed.flatten(1).T)
            seen = (seen * observed).double().movedim(0, -1)  # (S, B, N, T)
            shape = *observed.shape[1:], *lower.shape[-2:]
            white = torch.linalg.solve_triangular(lower.view(shape), seen.unsqueeze(-1), upper=False)
            y = (guess.view(*shape[:3], *guess.shape[-2:]) @ white).squeeze(-1).movedim(-1, 0)
        y = y.to(x)
        past = self.taps - 1
        return y[past:] + self.bias.detach(), None, self.units(y[:past])

    def filter(
        self, steps: int, observed: Bool[Tensor, "P T"] | None = None
    ) -> tuple[Float[Tensor, "*P E T"], Float[Tensor, "*P T T"]]:
        """Two matrices in float64 that make of a blurred series x its sources, L - 1 before it and `steps` along it: the second, triangular, is the
        root of the covariance of x, its inverse makes x white, u; and E[y_e | x_0 … x_t] = sum_{s <= t} first[e, s] u_s.

        With one pair for each pattern of what was `observed`.
        """
        return _filter(self.kernel.double(), float(self.memory), float(self.noise), steps, observed)

    @torch.no_grad()
    def prepare(self, x: Tensor, observed: Tensor | None, nuisance: Tensor | None = None) -> None:
        """The likeliest sources of the data, and their principal axes; the nuisance by least squares."""
        known = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
        mean = average(x, known)
        self.bias.copy_(mean.expand_as(self.bias))
        if nuisance is not None and self.J is not None:
            # A constant beside the regressors takes what is no change of theirs.
            r = torch.cat([nuisance, torch.ones_like(nuisance[..., :1])], -1).flatten(0, 1).double()
            for n in range(self.channels):
                rows = known[..., n].flatten()
                found = torch.linalg.lstsq(
                    r[rows], (x[..., n] - mean[n]).flatten()[rows].double().unsqueeze(1)
                ).solution
                self.J[:, :, n] = found[:-1, 0].to(x)
        series = x.transpose(0, 1).unsqueeze(1)  # (T, 1, W, N)
        acting = None if nuisance is None else nuisance.transpose(0, 1).unsqueeze(1)
        seen = None if observed is None else observed.transpose(0, 1).unsqueeze(1)
        if self.blurs:
            self._likeliest(self.undisturbed(series, acting)[:, 0], known.transpose(0, 1))
        y, _, _ = self.sources(series, seen, acting)
        super().prepare(y[:, 0].transpose(0, 1), None)

    def _likeliest(self, x: Float[Tensor, "T W N"], observed: Bool[Tensor, "T W N"]) -> None:
        """Sets how long sources remember and how loud the noise is, by the likelihood of those windows that were seen whole."""
        rows = x.double().flatten(1)[:, observed.flatten(1).all(0)]
        if not rows.numel():
            return
        best = -math.inf
        for memory in MEMORIES:
            for noise in NOISES:
                _, lower = _filter(self.kernel.double(), memory, noise, len(x))
                size = torch.linalg.solve_triangular(lower, rows, upper=False).square().mean()
                fit = float(-lower.diagonal().log().mean() - 0.5 * size.clamp(min=1e-30).log())
                if fit > best:
                    best = fit
                    self.memory.fill_(memory)
                    self.noise.fill_(noise)


def _filter(
    kernel: Tensor, memory: float, noise: float, steps: int, observed: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    taps = len(kernel)
    time = torch.arange(taps - 1 + steps, dtype=torch.float64, device=kernel.device)
    own = memory ** (time[:, None] - time).abs()  # the covariance of sources
    mixed = own.unfold(1, taps, 1) @ kernel.flip(0)  # with what is blurred of them
    blurred = mixed.T.unfold(1, taps, 1) @ kernel.flip(0)
    variance = noise * blurred.diagonal().mean().expand(steps)
    if observed is not None:
        variance = torch.where(observed, variance, NEVER)  # (P, T)
    lower = torch.linalg.cholesky(blurred + torch.diag_embed(variance))
    guess = torch.linalg.solve_triangular(lower, mixed.T.expand(*lower.shape[:-2], -1, -1), upper=False).mT
    return guess, lower


def bold(space: Space, members: int, latent: int, nuisance: int) -> BoldObservation:
    """The observation of scans of such a space; BadInput where it says nothing of the time between them."""
    if space.kind != "real":
        raise BadInput(f"observation bold does not fit {space.kind} entries; a scanner measures real numbers")
    if not space.tr:
        raise BadInput(
            "a BOLD observation needs the seconds between two volumes, which these data do not tell: --data.tr"
        )
    if not TIMES[0] <= space.tr <= TIMES[1]:
        raise BadInput(f"{space.tr:g} s between two volumes cannot be meant; give --data.tr in seconds")
    return BoldObservation(members, latent, space.shape[1], haemodynamic_response(space.tr), nuisance)

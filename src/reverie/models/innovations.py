"""What every model can do that predicts each step from those before it: in innovation form, with several members."""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reverie.core.corruption import Corruption, as_corruption
from reverie.core.distributions import Factorised
from reverie.core.errors import BadInput
from reverie.core.model import Estimate, Model
from reverie.maths.bounds import seeded
from reverie.maths.particles import Ancestry
from reverie.nets.bold import BoldObservation
from reverie.nets.cells import Cell
from reverie.nets.following import Follower, Late, follower
from reverie.nets.modalities import RealModality
from reverie.nets.observations import Observation

WARM = 1000  # free steps before a dream begins
PARTICLES = 64  # for each member and example, at least
OUT = 1e6  # no state of a machine that has not run away is as far
AT_ONCE = 2**13  # particles of all members


class Innovations(Model):
    """z_t = F(z_{t-1} + gain (x_{t-1} - its prediction)) + C s_t, x_t ~ p(x_t | z_t).

    Each x_t is drawn and then pulls the state, so p(x) is a product over steps. The members are an equal mixture of those
    that did not diverge. Subclasses own `cell`, `seen` and `C`.
    """

    cell: Cell
    seen: Observation
    C: nn.Parameter | None  # (S, K, M) of inputs
    diverged: Tensor  # (S,) bool, found to run away when run freely
    gain: Tensor  # (S,) share of the way that what is seen pulls the states, once the learning is done

    @abstractmethod
    def solve(self, data: Any, config: Any) -> None:
        """Sets `diverged` and `gain`."""

    def by_time(
        self, x: Tensor, observed: Tensor | None = None, inputs: Tensor | None = None, hands: int = 1
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Of examples (B, T, …) to time first, (T, hands, B / hands, …), and 0 where nothing was observed."""
        if inputs is None and self.inputs:
            raise BadInput("this machine was trained with inputs; give them at every step")
        if self.inputs and inputs is not None and inputs.shape[1] < x.shape[1]:
            raise BadInput(f"inputs of {inputs.shape[1]} steps cannot drive {x.shape[1]}; give those of every step")
        parts = (x if observed is None else torch.where(observed, x, 0.0), observed, inputs if self.inputs else None)
        first, *rest = (None if p is None else p.unflatten(0, (hands, -1)).movedim(2, 0).contiguous() for p in parts)
        assert first is not None
        return first, rest[0], rest[1]

    def drive(self, inputs: Tensor | None) -> Float[Tensor, "T S B M"] | None:
        """What inputs (T, …, B, K) add to the states."""
        return None if inputs is None or self.C is None else inputs[..., : self.C.shape[1]] @ self.C

    def disturbing(self, inputs: Tensor | None) -> Tensor | None:
        """Those of them that add to what is seen alone, the last."""
        return None if inputs is None or not self.nuisance else inputs[..., -self.nuisance :]

    def forced(
        self, x: Tensor, observed: Tensor | None, inputs: Tensor | None, weight: Tensor, process_noise: float = 0.0
    ) -> Float[Tensor, "T S B M"]:
        """The states at all steps of x (T, S or 1, B, N): the first from what was seen first, each other from those before, and
        from noise of that deviation."""
        start = self.seen.start(x[0], None if observed is None else observed[0])
        drive = None if inputs is None else self.drive(inputs[1:])
        if process_noise:
            noise = process_noise * torch.randn(len(x) - 1, *start.shape, dtype=start.dtype, device=start.device)
            drive = noise if drive is None else drive + noise
        later = self.cell.orbit(start, len(x) - 1, self.seen.forcing(x[:-1], weight[:-1]), drive)
        return torch.cat([start.unsqueeze(0), later])

    def nats(
        self,
        states: Tensor,
        x: Tensor,
        observed: Tensor | None,
        inputs: Tensor | None = None,
        before: Tensor | None = None,
    ) -> Float[Tensor, "T S B"]:
        """-log p(x_t | the states up to it), those `before` the first step included."""
        return self.judged(self.seen(self.seen.felt(states, before)[1:]), x, observed, inputs)

    def judged(
        self, later: Factorised, x: Tensor, observed: Tensor | None, inputs: Tensor | None
    ) -> Float[Tensor, "T S B"]:
        """-log p of each step, from the laws of all but the first."""
        known = (None, None) if observed is None else (observed[0], observed[1:])
        r = self.disturbing(inputs)
        now, then = (None, None) if r is None else (r[0], r[1:])
        first = self.seen.disturbed(self.seen.first(x[0].expand(len(self.gain), -1, -1)), now)
        later = self.seen.disturbed(later, then)
        return -torch.cat([first.log_prob(x[0], known[0]).unsqueeze(0), later.log_prob(x[1:], known[1])])

    def foretold(
        self, x: Tensor, observed: Tensor | None, inputs: Tensor | None, weight: Tensor, steps: int = 1, driven: int = 1
    ) -> Factorised:
        """p(x_{t + steps} | what was seen up to t) at all t but the last `steps`, where it pulls by `weight`, undisturbed; with
        the inputs of the `driven` steps after t, or where that is 0 under none."""
        if isinstance(self.seen, BoldObservation):
            known = None if observed is None or bool(observed.all()) else observed
            late = Late(self.seen, self.cell, weight, self.drive(inputs), self.disturbing(inputs), known)
            return self.seen(torch.stack([late.tell(seen).ahead(steps, driven) for seen in x[:-steps]]))
        states = self.forced(x, observed, inputs, weight)
        if driven:
            return self.seen(states[1:])
        states = states[:-steps]
        less, _, batch, _ = states.shape
        now, pull = (
            part[:-steps].expand(-1, -1, batch, -1).transpose(0, 1).flatten(1, 2).unsqueeze(0) for part in (x, weight)
        )
        z = self.seen.forcing(now, pull).pulled(states.transpose(0, 1).flatten(1, 2), 0)
        ahead = self.cell.orbit(z, steps)[-1].unflatten(1, (less, batch))
        return self.seen(ahead.transpose(0, 1))

    @property
    def usable(self) -> Tensor:
        """(S,) bool, the members that did not diverge; all where all did."""
        return ~self.diverged | self.diverged.all()

    def _mixed(self, log_p: Tensor) -> Tensor:
        """(…, B) log of the mean over usable members (…, S, B)."""
        usable = log_p[..., self.usable, :]
        return torch.logsumexp(usable, -2) - torch.tensor(float(usable.shape[-2])).log()

    @torch.no_grad()
    def surprise_by_step(
        self, x: Float[Tensor, "B T N"], inputs: Float[Tensor, "B T K"] | None = None
    ) -> Float[Tensor, "B T"]:
        """-log p(x_t | x_1 … x_{t-1}) in nats; over the steps they sum to the surprise."""
        x, _, inputs = self.by_time(x, None, inputs)
        later = self.foretold(x, None, inputs, self.gain.view(1, -1, 1, 1).expand(len(x), -1, -1, -1))
        so_far = self._mixed(-self.judged(later, x, None, inputs).cumsum(0))
        return -torch.diff(so_far, dim=0, prepend=torch.zeros_like(so_far[:1])).T

    @torch.no_grad()
    def surprise(
        self,
        x: Float[Tensor, "B T N"],
        observed: Bool[Tensor, "B T N"] | None = None,
        draws: int = 100,
        inputs: Float[Tensor, "B T K"] | None = None,
    ) -> Estimate:
        """Exact where all was seen; where there are holes, by at most PARTICLES particles for each member, always the same ones for a
        batch."""
        if observed is None or bool(observed.all()):
            nats = self.surprise_by_step(x, inputs).sum(1)
            return Estimate(nats, torch.zeros_like(nats), "nats", "lower", "exact")
        many = min(draws, PARTICLES)
        with seeded(0, x.device):
            found = [self._walk(*part, many, 0.0)[1:] for part in self._parts(x, observed, inputs, many)]
        value, error = (torch.cat(column) for column in zip(*found, strict=True))
        return Estimate(-value, error, "nats", "lower", f"particles-{many}")

    @torch.no_grad()
    def sample(
        self, n: int, given: Tensor | None = None, inputs: Float[Tensor, "n T K"] | None = None
    ) -> Float[Tensor, "n T N"]:
        """(n, *shape) draws from p(x), noise and all; without inputs where none are given."""
        self.labels(n, given)
        x = self.gain.new_zeros(n, *self.space.shape)
        if self.inputs and inputs is None:
            inputs = x.new_zeros(*x.shape[:2], self.inputs)
        nothing = torch.zeros_like(x, dtype=torch.bool)
        return torch.cat([self._walk(*part, 1, 0.0, 1)[0][0] for part in self._parts(x, nothing, inputs, 1)])

    @torch.no_grad()
    def repair(
        self,
        x: Float[Tensor, "B T N"],
        observed: Bool[Tensor, "B T N"] | None,
        n: int,
        noise: float | Corruption = 0.0,
        inputs: Float[Tensor, "B T K"] | None = None,
    ) -> Float[Tensor, "n B T N"]:
        """Draws by a particle filter whose particles fill what is missing, and are chosen by how well they foresee
        what comes after."""
        known = torch.ones_like(x, dtype=torch.bool) if observed is None else observed
        many = max(PARTICLES, n)
        return torch.cat([self._walk(*p, many, noise, n)[0] for p in self._parts(x, known, inputs, many)], 1)

    @torch.no_grad()
    def forecast(
        self, x: Float[Tensor, "B T N"], steps: int, n: int, inputs: Float[Tensor, "B more K"] | None = None
    ) -> Float[Tensor, "n B steps N"]:
        """Draws of what comes next, NaN in x being what was not seen; inputs up to the end of the forecast."""
        longer = torch.cat([x, x.new_full((len(x), steps, x.shape[2]), torch.nan)], 1)
        observed = ~longer.isnan()
        return self.repair(torch.where(observed, longer, 0.0), observed, n, 0.0, inputs)[:, :, x.shape[1] :]

    @torch.no_grad()
    def foresee(
        self, x: Float[Tensor, "B T N"], steps: int, inputs: Float[Tensor, "B T K"] | None = None
    ) -> Float[Tensor, "S B less N"]:
        """What each member expects `steps` later, at every step of x but the last `steps`, from what was seen up to it (NaN:
        not seen); the mean, under no inputs after that step, and undisturbed."""
        known = ~x.isnan()
        x, observed, inputs = self.by_time(x, known, inputs)
        assert observed is not None
        weight = self.gain.view(1, -1, 1, 1) * observed
        return self.foretold(x, observed, inputs, weight, steps, 0).mean.movedim(0, 2)

    def _parts(
        self, x: Tensor, observed: Tensor, inputs: Tensor | None, many: int
    ) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Examples a few at a time, time first."""
        size = max(1, AT_ONCE // (many * len(self.gain)))
        for i in range(0, len(x), size):
            rows = slice(i, i + size)
            first, known, acting = self.by_time(x[rows], observed[rows], None if inputs is None else inputs[rows])
            assert known is not None
            yield first, known, acting

    def _walk(
        self,
        x: Tensor,
        observed: Tensor,
        inputs: Tensor | None,
        many: int,
        noise: float | Corruption,
        n: int = 0,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """n draws (n, B, T, N) of what x (T, 1, B, N) is where it was not seen, log p(what was seen) (B,) and its error (B,), by
        `many` particles for each member and example."""
        members, batch = len(self.gain), x.shape[2]
        x, observed = (part.repeat_interleave(many, 2)[:, 0] for part in (x, observed))  # (T, B * many, N)
        inputs = None if inputs is None else inputs.repeat_interleave(many, 2)
        r, corruption = self.disturbing(inputs), as_corruption(noise)
        ancestry = Ancestry(members, batch, many, x, n > 0)
        pull = self.gain.view(1, -1, 1, 1).expand(len(x), -1, -1, -1)
        ours = follower(self.seen, self.cell, pull, self.drive(inputs), r)
        for t in range(len(x)):
            p = _law(self.seen, ours) if t else self.seen.first(x[0].expand(members, -1, -1))
            p = self.seen.disturbed(p, None if r is None else r[t])
            weight = p.evidence(x[t], observed[t], corruption)
            drawn = p.fill(x[t].expand(members, -1, -1), observed[t].expand(members, -1, -1), noise)
            chosen = ancestry.grown(drawn, weight)
            if chosen is not None:
                drawn = drawn.gather(1, chosen.unsqueeze(-1).expand_as(drawn))
                ours.choose(chosen)
            if t + 1 < len(x):
                ours.tell(drawn)
        return ancestry.finished(n, self.usable)

    @torch.no_grad()
    def free_run(
        self,
        steps: int,
        start: Float[Tensor, "B N"] | None = None,
        inputs: Float[Tensor, "T 1 B K"] | None = None,
        process_noise: bool = False,
    ) -> Float[Tensor, "S B steps N"]:
        """Every member's own orbit, from what was seen first (B, N), or from wherever WARM free steps led: the mean of p(x_t | z_t),
        which no nuisance disturbs; of a category the number of the most likely level, of an ordered one of the
        median level. With inputs those of each step (WARM steps before them are under none); without, under none.

        With `process_noise` the machine goes on as p(x) has it: each x_t is drawn and pulls the state by the gain, so that
        what it could not foresee of a recording moves it as it moved the recording. The noise of what is seen, which moves nothing, is
        left out here too.
        """
        warm = 0 if start is not None else WARM
        if warm and inputs is not None:
            inputs = torch.cat([inputs.new_zeros(warm, *inputs.shape[1:]), inputs])
        if start is None:
            orbits = 1 if inputs is None else inputs.shape[2]
            start = self.seen.first(self.gain.new_zeros(orbits, self.space.shape[1])).sample()
        drive = self.drive(inputs)
        if process_noise:
            return self._moved(start.unsqueeze(0), warm + steps, drive)[warm:].movedim(0, 2)
        z = self.seen.start(start.unsqueeze(0), None)
        states = self.cell.orbit(z, warm + steps, None, drive)
        return self.seen(self.seen.felt(states, z.unsqueeze(0))[warm:]).mean.movedim(0, 2)

    def _moved(self, start: Float[Tensor, "1 B N"], steps: int, drive: Tensor | None) -> Float[Tensor, "T S B N"]:
        """The means of p(x_t | z_t) after the start, each x_t drawn."""
        if isinstance(self.seen.modality, RealModality) and not self.seen.blurs:
            return self._shaken(start, steps, drive)
        pull = self.gain.view(1, -1, 1, 1).expand(steps + 1, -1, -1, -1)
        drive = None if drive is None else torch.cat([torch.zeros_like(drive[:1]), drive])
        ours, means = follower(self.seen, self.cell, pull, drive, None).tell(start), []
        for _ in range(steps):
            means.append(self.seen(ours.ahead()).mean)
            if len(means) < steps:
                ours.tell(_law(self.seen, ours).sample())
        return torch.stack(means)

    def _shaken(self, start: Float[Tensor, "1 B N"], steps: int, drive: Tensor | None) -> Float[Tensor, "T S B N"]:
        """The same where innovations do not depend on the state: what they add to it is drawn for all steps at once, and then drives one
        sweep, z_t + push_t = F(z_{t-1} + push_{t-1}) + C s_t + push_t."""
        z = self.seen.start(start, None)
        nowhere = z.new_zeros(len(z), steps * z.shape[1], z.shape[2])
        x = self.seen(nowhere).sample().unsqueeze(0)
        push = self.seen.forcing(x, self.gain.view(1, -1, 1, 1)).pulled(nowhere, 0)
        push = push.unflatten(1, (steps, -1)).transpose(0, 1).contiguous()
        after = self.cell.orbit(z, steps, None, push if drive is None else drive[:steps] + push)
        return self.seen(after - push).mean

    @torch.no_grad()
    def dream(self, n: int, given: Tensor | None = None) -> Float[Tensor, "n T N"]:
        """(n, *shape) stretches of free runs, of the usable members in turn."""
        self.labels(n, given)
        usable = self.usable.nonzero().flatten()
        each = -(-n // len(usable))
        start = self.seen.first(self.gain.new_zeros(each, self.space.shape[1])).sample()
        x = self.free_run(WARM + self.space.shape[0], start)[usable, :, WARM:]
        return x.transpose(0, 1).flatten(0, 1)[:n]


def _law(seen: Observation, ours: Follower) -> Factorised:
    """p of the next step, which can be drawn from; whoever ran away is not heard, but must not stop the others."""
    return seen(torch.nan_to_num(ours.ahead()).clamp(-OUT, OUT))

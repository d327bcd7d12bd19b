"""The loop: what it promises about learners, stops, bad losses and processes."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from reverie.core.errors import BadInput
from reverie.core.model import Batch, Model, Phase
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import open_data
from reverie.models.vae import VAE, VAEConfig
from reverie.training import WATCH, Diverged, State, fabric_for, rate_at, seed_of, training

BARS = open_data("bars", count=300)


class Two(Model):
    """Two learners that pull one number each; the second phase must see the first one's step."""

    Config = type(None)

    def __init__(self, space: Space, bad_at: int = -1):
        super().__init__(None, space)
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.bad_at, self.seen = bad_at, []

    def learners(self) -> dict:
        return {"a": [self.a], "b": [self.b]}

    def phases(self, batch: Batch, step: int) -> Iterator[Phase]:
        yield Phase("a", (self.a - 1).square() + self.b)
        self.seen.append(self.a.item())
        loss = (self.b - self.a).square()
        yield Phase("b", loss * math.nan if step == self.bad_at else loss)

    def sample(self, n: int, given: Tensor | None = None) -> Tensor:
        return torch.zeros(n, *self.space.shape)


def run(state: State, seed: int = 0, until: int | None = None) -> list:
    reports = []
    for report in training(state, BARS, seed, fabric_for("cpu")):
        reports.append(report)
        if report.step == until:
            break
    return reports


class Watching(Two):
    """Says what it was shown."""

    def watch(self, batch: Batch, held: Batch, share: float) -> dict[str, float]:
        self.seen.append((held.x, share))
        return {"held": float(len(held.x)), "known": float(len(batch.x))}


def test_a_model_that_watches_is_shown_held_out_examples_now_and_then():
    model = Watching(BARS.space)
    reports = run(State(model, TrainingConfig(steps=40, batch=10)))
    assert [r.step for r in reports if r.watched] == [WATCH, 2 * WATCH]
    assert reports[WATCH - 1].watched == {"held": 10, "known": 10}
    looks = [shown for shown in model.seen if isinstance(shown, tuple)]
    valid = BARS.valid.x()
    for x, share in looks:
        assert share == WATCH / 40
        assert all((row == valid).flatten(1).all(1).any() for row in x)
    assert not torch.equal(looks[0][0], looks[1][0])


def test_phases_are_stepped_lazily_and_alone():
    model = Two(BARS.space)
    run(State(model, TrainingConfig(steps=1, batch=10, rate=0.5, warmup=0.0)))
    assert model.seen == [pytest.approx(0.5)]  # the first Adam step has the length of the rate
    assert model.b.item() == pytest.approx(0.5, abs=1e-3)  # towards a, not away from the first phase's + b


def test_a_loss_that_is_not_finite_stops_before_it_is_stepped():
    model = Two(BARS.space, bad_at=3)
    state = State(model, TrainingConfig(steps=10, batch=10))
    with pytest.raises(Diverged, match="learner 'b' is nan in round 4"):
        run(state)
    assert model.a.isfinite()
    assert model.b.isfinite()
    assert state.step == 3


def vae_state(steps: int = 40, **changes) -> State:
    torch.manual_seed(0)
    config = VAEConfig(latent=3, width=16, depth=1, components=2)
    return State(VAE(config, BARS.space), TrainingConfig(steps=steps, batch=32, **changes))


@pytest.mark.parametrize("optimiser", ["adam", "soap"])
def test_a_run_that_was_stopped_and_restored_is_the_run_that_was_not(optimiser):
    whole = vae_state(optimiser=optimiser)
    reports = run(whole)
    first = vae_state(optimiser=optimiser)
    run(first, until=17)
    kept = {k: v.clone() for k, v in first.tensors().items()}
    torch.randn(1000)  # whatever else happened in between
    second = vae_state(optimiser=optimiser)
    second.restore(kept, 17)
    rest = run(second)
    assert rest == reports[17:]
    assert whole.tensors().keys() == second.tensors().keys()
    for name, value in whole.tensors().items():
        assert torch.equal(value, second.tensors()[name]), name


def test_averaged_weights_follow_with_the_half_life():
    state = State(Two(BARS.space), TrainingConfig(steps=1000, average=0.1))
    with torch.no_grad():
        state.model.a.fill_(1.0)
        state.average.a.fill_(0.0)
    state.step = 900
    for _ in range(10):  # 100 rounds, one half-life, a step every 10
        state.step += 10
        state.follow()
    assert state.average.a.item() == pytest.approx(0.5, abs=0.03)


def test_the_rate_rises_and_falls_as_said():
    config = TrainingConfig(steps=1000, rate=1.0, warmup=0.1, final=0.02)
    assert rate_at(0, config) == pytest.approx(0.01)
    assert rate_at(99, config) == pytest.approx(1.0)
    assert rate_at(550, config) == pytest.approx(0.51, abs=0.01)
    assert rate_at(1000, config) == pytest.approx(0.02)


def test_rounds_before_a_settling_go_by_the_rounds_that_were_planned():
    settled = TrainingConfig(steps=100).settled_again(25, 60).settled_again(30, 80)
    assert [settled.planned(step) for step in (0, 24, 25, 29, 30, 79)] == [100, 100, 60, 60, 80, 80]
    for step, rounds in ((24, 100), (25, 60), (29, 60), (30, 80)):
        assert rate_at(step, settled) == rate_at(step, TrainingConfig(steps=rounds))


def test_seeds_of_rounds_do_not_collide():
    seeds = {seed_of(s, t, r) for s in range(3) for t in range(2000) for r in range(2)}
    assert len(seeds) == 3 * 2000 * 2


def test_one_world_of_two_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(BadInput, match="--devices"):
        fabric_for("cpu")


SCRIPT = """
import sys, torch
from reverie.core.recipe import TrainingConfig
from reverie.data import open_data
from reverie.models import made
from reverie.models.vae import VAEConfig
from reverie.training import State, fabric_for, training
torch.set_num_threads(1)
fabric = fabric_for("cpu", devices=int(sys.argv[1]))
config = VAEConfig(latent=3, width=16, depth=1, prior="gaussian")
for name, classes in (("bars", 0), ("digits", 10)):  # with so few of a label in a batch, no process has them all
    data = open_data(name)
    taken, batches = [], data.batches
    def spied(*asked, **more):
        for batch in batches(*asked, **more):
            taken.append(batch.x.double().sum().item())
            yield batch
    data.batches = spied
    torch.manual_seed(0)
    state = State(made("vae", config, data.space, classes), TrainingConfig(steps=15, batch=16))
    for report in training(state, data, 0, fabric):
        pass
    total = sum(t.double().abs().sum() for t in state.model.state_dict().values()).item()
    whole = [b.x.double().sum().item() for b, _ in zip(batches(16, 0, 0, TrainingConfig()), range(15))]
    print(f"RANK {fabric.global_rank} of {fabric.world_size} {name}: {total:.9f} {sum(taken[:15]):.3f} {sum(whole):.3f}", flush=True)
"""


def test_two_processes_share_batches_and_hold_the_same_weights(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(SCRIPT)
    environment = {k: v for k, v in os.environ.items() if k not in ("WORLD_SIZE", "LOCAL_RANK", "RANK")}
    done = subprocess.run(
        [sys.executable, str(script), "2"], capture_output=True, text=True, timeout=120, env=environment, check=False
    )
    # Both write to one pipe, so lines may run into each other.
    for name in ("bars", "digits"):
        number = r"(-?\d+\.\d+)"
        said = sorted(re.findall(rf"RANK (\d) of 2 {name}: {number} {number} {number}", done.stdout))
        assert [rank for rank, *_ in said] == ["0", "1"], done.stderr[-2000:]
        assert said[0][1] == said[1][1]
        shares = [float(taken) for _, _, taken, _ in said]
        assert shares[0] != shares[1]
        assert sum(shares) == pytest.approx(float(said[0][3]), abs=0.01)  # together they have had the batches of one

"""Subjects that share a machine: one of no differences is the shared one, and a vector is found again."""

import numpy as np
import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import DataConfig
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.models.cohort import Cohort, CohortConfig
from reverie.training import State, fabric_for, training

SPACE = Space((12, 2), "real")


def cohort(**changes):
    return Cohort(CohortConfig(**{"classes": 3, "hidden": 5, "vector": 2, "members": 2} | changes), SPACE)


@pytest.mark.parametrize("cell", ["shallow", "clipped", "plrnn", "dendritic", "almost_linear", "gru"])
def test_the_loss_is_that_of_each_subjects_own_machine(cell):
    model = cohort(cell=cell, hidden=2).train()
    with torch.no_grad():
        model.vectors.normal_()
    x, given = torch.randn(8, 12, 2), torch.tensor([0, 2, 1, 1, 0, 2, 2, 0])
    (phase,) = model.phases(Batch(x, given=given), 0)
    nats = []
    for member in range(2):
        for row in range(4 * member, 4 * member + 4):
            machine = model.machine(model.vectors[:, given[row]])
            seen, _, _ = machine.by_time(x[row : row + 1])
            forced = machine.forced(seen, None, None, machine.weight(seen, None, 0))
            nats.append(machine.nats(forced, seen, None).sum(0)[member, 0])
    torch.testing.assert_close(phase.report, torch.stack(nats).mean(), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_autograd_through_the_machines():
    model = cohort(members=1).double().train()
    x, given = torch.randn(6, 12, 2, dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0, 2])
    (phase,) = model.phases(Batch(x, given=given), 0)
    parameters = dict(model.named_parameters())
    place = list(parameters).index("vectors")
    step = 1e-5
    with torch.no_grad():
        for index in [(0, 0, 0), (0, 2, 1)]:
            moved = []
            for sign in (1, -1):
                model.vectors[index] += sign * step
                (again,) = model.phases(Batch(x, given=given), 0)
                moved.append(float(again.loss))
                model.vectors[index] -= sign * step
            wanted = (moved[0] - moved[1]) / (2 * step)
            assert float(phase.gradients[place][index]) == pytest.approx(wanted, rel=1e-4)


def oscillators(slopes, steps=300):
    """Turning and shrinking at a rate of its own, pushed by noise."""
    random, trials = np.random.default_rng(0), []
    for i, angle in enumerate(slopes):
        turn = 0.97 * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        x = np.zeros((steps, 2))
        for t in range(1, steps):
            x[t] = turn @ x[t - 1] + 0.2 * random.standard_normal(2)
        trials.append(Trial(x.astype(np.float32), None, f"subject {i:02}"))
    return from_trials("oscillators", trials, {}, DataConfig(window=12, split="time"))


def test_vectors_order_subjects_and_a_new_one_is_fitted_by_its_vector():
    angles = [0.1, 0.3, 0.5, 0.7, 0.9]
    data = oscillators(angles)
    torch.manual_seed(0)
    config = CohortConfig(classes=5, hidden=4, vector=1, alpha=0.7)
    state = State(Cohort(config, data.space), TrainingConfig(steps=400, batch=32, rate=1e-2, average=0.0))
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    model = state.average
    v = model.vectors[0, :, 0]
    order = v.argsort().tolist()
    assert order in ([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])
    vector, machine = model.fit_subject(oscillators([0.4]), steps=200)
    low, high = sorted(v[1:3].tolist())
    assert low < float(vector) < high
    assert not machine.diverged.any()
    assert bool(model.solved)
    assert model.surprise(data.test.x(5), given=data.test.labels[:5]).value.isfinite().all()


def test_a_cohort_asks_whose_series_they_are():
    with pytest.raises(BadInput, match=r"--model\.classes"):
        cohort(classes=0)
    with pytest.raises(BadInput, match="whose"):
        next(cohort().phases(Batch(torch.randn(2, 12, 2)), 0))
    with pytest.raises(BadInput, match="subjects"):
        cohort().prepare(oscillators([0.1]))


def test_each_subject_is_as_noisy_as_its_own_validation_windows():
    rng = np.random.default_rng(0)
    trials = [
        Trial((size * rng.standard_normal((400, 2))).astype(np.float32), None, name)
        for name, size in (("calm", 0.05), ("wild", 2.0))
        for _ in range(2)
    ]
    data = from_trials("two", trials, {"source": "two"}, DataConfig(window=20, split="time"))
    model = Cohort(CohortConfig(classes=2, hidden=3), data.space)
    model.solve(data, TrainingConfig())
    for y in range(2):
        x = data.of_label(y).valid.x()
        assert data.of_label(y).valid.labels.unique().tolist() == [y]
        told = model.machine(model.vectors[:, y], y).seen.modality.log_scale.exp()
        assert told.mean().item() == pytest.approx(x.std().item(), rel=0.5)  # and not as that of both


def test_a_cohort_is_not_driven():
    with pytest.raises(BadInput, match="driven by no inputs"):
        cohort(inputs=1)

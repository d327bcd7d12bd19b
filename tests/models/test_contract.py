"""One contract for every family in MODELS, on every kind of space it says it can model."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from reverie.core import abilities
from reverie.core.config import check
from reverie.core.distributions import Distribution
from reverie.core.errors import BadInput
from reverie.core.model import Batch, Decodes, Encodes, Estimate, Repairs, Styled, Surprised
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Column, Space
from reverie.data.arrays import from_array
from reverie.data.codecs import Table
from reverie.data.config import DataConfig
from reverie.data.data import Data, splits
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.models import MODELS
from reverie.run import Run
from reverie.training import State, fabric_for, told, training

MIXED = (Column("age", "real"), Column("visits", "count"), Column("sex", "category", 2), Column("town", "category", 3))
SPACES = {
    "bit": Space((1, 3, 4), "bit"),
    "byte": Space((1, 5, 4), "byte"),
    "real": Space((3,), "real"),
    "count": Space((3,), "count"),
    "mixed": Space((4,), "mixed", MIXED),
}
MODAL = Table(
    (Column("volts", "real"), Column("spikes", "count"), Column("awake", "category", 2), Column("mood", "ordered", 3)),
    ((), (), ("no", "yes"), ("low", "middle", "high")), (0.0,) * 4, (1.0,) * 4,
)  # fmt: skip
CASES = [(name, kind) for name, family in MODELS.items() for kind in family.kinds if kind in SPACES]
CASES += [("recurrent", "scan"), ("cohort", "scan")]  # seen through the haemodynamic response
SMALL = {
    "latent": 3, "width": 8, "components": 2, "groups": (1, 2), "sweeps": 3, "layers": (4, 3), "draws": 3, "hidden": 6,
    "inversion": 4,
}  # fmt: skip


def small(name: str, space: Space | None = None):
    config = MODELS[name].Config()
    known = {f.name for f in dataclasses.fields(config)}
    own = {"classes": 2} if name == "cohort" else {}
    own |= {"observation": "bold"} if space is not None and space.tr else {}
    return dataclasses.replace(config, **{k: v for k, v in SMALL.items() if k in known}, **own)


def some_series(kind: str):
    generator = torch.Generator().manual_seed(3)
    raw = torch.randn(90, 7, 3, generator=generator).cumsum(1)
    if kind == "mixed":
        rest = torch.stack([torch.poisson(raw[..., 1].exp().clamp(max=9), generator=generator), raw[..., 2] > 0], -1)
        mood = (raw[..., :1] + raw[..., 1:2]).clamp(-1.4, 1.4).round() + 1
        cells = torch.cat([raw[..., :1], rest, mood], -1).float().numpy()
        trials = [Trial(x, None, "ab"[i % 2]) for i, x in enumerate(cells)]
        return from_trials("made", trials, {}, DataConfig(window=7), seen=MODAL)
    raw = raw if kind != "count" else torch.poisson((0.5 * raw).exp(), generator=generator).int()
    trials = [Trial(x, None, "ab"[i % 2]) for i, x in enumerate(raw.numpy())]
    config = DataConfig(window=7, tr=2.0 if kind == "scan" else 0.0)
    return from_trials("made", trials, {}, config, kind="count" if kind == "count" else "real")


def some_data(kind: str):
    shape = SPACES[kind].shape
    generator = torch.Generator().manual_seed(3)
    raw = {
        "bit": torch.randint(2, (90, *shape), generator=generator).bool().numpy(),
        "byte": torch.randint(256, (90, *shape), generator=generator).byte().numpy(),
        "real": torch.randn(90, *shape, generator=generator).numpy(),
        "count": torch.randint(7, (90, *shape), generator=generator).numpy(),
    }
    if kind == "mixed":
        real, rest = torch.randn(90, 1, generator=generator), torch.rand(90, 3, generator=generator)
        cells = torch.cat([real, (rest * torch.tensor([6, 2, 3])).floor()], 1).numpy().astype(np.float64)
        codec = Table(MIXED, ((), (), ("f", "m"), ("a", "b", "c")), (0.0,) * 4, (1.0,) * 4)
        return Data("made", SPACES["mixed"], codec, *splits(cells, (70, 80), 90, None), spec={})
    return from_array("made", raw[kind], {"source": "made"}, DataConfig())


def labels_of(data, n):
    """Whose the first training examples are."""
    return None if data.train.labels is None else data.train.labels[:n]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(case))
def case(request):
    """A model of each family on each space, trained for three rounds."""
    name, kind = request.param
    data = some_series(kind) if name in ("recurrent", "cohort") else some_data(kind)
    state = State(MODELS[name](small(name, data.space), data.space), TrainingConfig(steps=3, batch=8))
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    return name, state.average, data


def test_every_world_has_a_case():
    assert {name for name, _ in CASES} == set(MODELS)


def test_samples_lie_in_the_space(case):
    _, model, data = case
    x = model.sample(5)
    assert x.shape == (5, *data.space.shape)
    assert x.dtype == torch.float32
    if data.space.lattice is not None:
        assert (x.unsqueeze(-1) - data.space.lattice).abs().min(-1).values.max() < 1e-6
    assert abilities.dream(model, 5).shape == x.shape
    assert not torch.equal(model.sample(5), model.sample(5))


@pytest.mark.parametrize(("name", "kind"), CASES, ids=map("-".join, CASES))
def test_a_reduced_model_learns_nearly_the_same_or_says_that_it_cannot(name, kind):
    data = some_series(kind) if name in ("recurrent", "cohort") else some_data(kind)

    def losses(precision: str) -> tuple[torch.Tensor, State]:
        torch.manual_seed(0)
        state = State(
            MODELS[name](small(name, data.space), data.space), TrainingConfig(steps=8, batch=32, precision=precision)
        )
        reports = list(training(state, data, 0, fabric_for("cpu")))
        return torch.tensor([value for report in reports for value in report.losses.values()]), state

    family = MODELS[name](small(name, data.space), data.space)
    if not family.learners():
        pytest.skip("solved in closed form")
    if not family.reducible:
        with pytest.raises(BadInput, match="learns in float32 alone"):
            losses("bfloat16")
        return
    exact, _ = losses("float32")
    reduced, state = losses("bfloat16")
    assert not torch.equal(exact, reduced)  # otherwise nothing was reduced
    assert torch.allclose(exact, reduced, rtol=0.02, atol=0.05)
    assert all(p.dtype == torch.float32 for p in state.model.parameters())
    assert not any(part.reduced for part in state.average.modules() if hasattr(part, "reduced"))


def test_learners_partition_the_parameters(case):
    _, model, _ = case
    groups = [id(p) for group in model.learners().values() for p in group]
    assert len(groups) == len(set(groups))
    assert set(groups) == ({id(p) for p in model.parameters()} if model.learners() else set())


def test_phases_move_their_own_learner_and_no_other(case):
    name, _, data = case
    model = MODELS[name](small(name, data.space), data.space)
    if not model.learners():
        pytest.skip("solved in closed form")
    batch = Batch(data.train.x(8), None, labels_of(data, 8))
    learners = {key: list(group) for key, group in model.learners().items()}
    for phase in model.phases(batch, 0):
        if phase.gradients is not None:
            for p, gradient in zip(learners[phase.learner], phase.gradients, strict=True):
                assert gradient.shape == p.shape
            assert phase.report.shape == ()
            continue
        for p in model.parameters():
            p.grad = None
        phase.loss.backward(inputs=learners[phase.learner])
        idle = [tuple(p.shape) for p in learners[phase.learner] if p.numel() and p.grad is None]
        assert not idle  # a parameter that nothing asks for is a dead one
        assert phase.loss.shape == ()


def test_surprise_is_one_honest_number_per_example(case):
    _, model, data = case
    if not isinstance(model, Surprised):
        pytest.skip("has no surprise")
    x = data.test.x(6)
    found = model.surprise(x, draws=20)
    assert isinstance(found, Estimate)
    assert found.value.shape == found.error.shape == (6,)
    assert found.value.isfinite().all()
    assert (found.error >= 0).all()
    assert found.unit == "nats"
    nothing = model.surprise(x, torch.zeros_like(x, dtype=torch.bool), draws=5)
    # What was not looked at cannot surprise: p(nothing) = 1.
    if nothing.method == "exact":
        assert (nothing.value.abs() < 1e-3).all()
    else:  # the weights have mean 1, so by Markov's inequality a mean of them over e^12 has probability under 1e-5
        assert (nothing.value > -12).all()


def test_the_probabilities_of_all_examples_sum_to_one(case):
    """All 4,096 pictures of twelve bits. Importance-weighted estimates of p(x) are unbiased, and so is their sum."""
    _, model, data = case
    if not isinstance(model, Surprised) or data.space.kind != "bit":
        pytest.skip("too many examples to try them all")
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=12))).view(-1, *data.space.shape)
    found = model.surprise(every, draws=50)
    p = torch.exp(-found.value.double())
    assert abs(p.sum() - 1) < 5 * (p * found.error).square().sum().sqrt() + 1e-3


def test_holes_reach_neither_loss_nor_gradient(case):
    name, _, data = case
    model = MODELS[name](small(name, data.space), data.space)
    if not model.learners():
        pytest.skip("solved in closed form")
    model.eval()  # no running moments, which remember the first of the two passes
    x = data.train.x(8)
    observed = torch.rand_like(x) < 0.6
    results = []
    for behind in (0.0, torch.nan):
        torch.manual_seed(4)
        found = []
        for phase in model.phases(Batch(torch.where(observed, x, behind), observed, labels_of(data, 8)), 0):
            if phase.gradients is not None:
                found += [phase.report, *phase.gradients]
                continue
            gradients = torch.autograd.grad(phase.loss, list(model.parameters()), allow_unused=True)
            found += [phase.loss.detach(), *(g for g in gradients if g is not None)]
        results.append(found)
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
        assert a.isfinite().all()


@pytest.mark.parametrize(("name", "kind"), [("vae", "bit"), ("vae", "mixed"), ("ladder", "bit"), ("helmholtz", "byte")])
def test_labels_condition_everything(name, kind):
    space, classes = SPACES[kind], 3
    torch.manual_seed(0)
    model = MODELS[name](dataclasses.replace(small(name), classes=classes), space)
    for p in model.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    model.label_shares.copy_(torch.tensor([0.5, 0.3, 0.2]))
    x, y = model.sample(6), torch.tensor([0, 1, 2, 0, 1, 2])
    assert model.sample(6, y).shape == x.shape
    by_label = torch.stack([model.surprise(x, draws=20, given=torch.full((6,), c)).value for c in range(classes)])
    everything = -torch.logsumexp(model.label_shares.log()[:, None] - by_label, 0)
    torch.testing.assert_close(model.surprise(x, draws=20).value, everything)
    observed = torch.rand_like(x) < 0.5
    for given in (y, None):
        draws = model.repair(x, observed, 4, given=given)
        assert torch.equal(draws[:, observed], x[observed].expand(4, -1))
    with pytest.raises(BadInput, match="label"):
        model.sample(2, torch.tensor([0, 3]))
    for needy in (lambda: model.encode(x), lambda: model.decode(model.prior.sample(2))):
        with pytest.raises(BadInput, match="label"):
            needy()
    for phase in model.phases(Batch(x, None, y), 0):
        assert np.isfinite(told(phase))


def test_encode_and_decode_give_distributions(case):
    _, model, data = case
    x = data.test.x(4)
    if isinstance(model, Encodes):
        q = model.encode(x)
        assert isinstance(q, Distribution)
        assert q.mean.shape[0] == 4
        assert q.sample(7).shape == (7, *q.mean.shape)
        assert q.log_prob(q.sample()).shape == (4,)
    if isinstance(model, Decodes):
        p = model.decode(model.prior.sample(4))
        assert p.mean.shape == x.shape
        assert p.log_prob(x).shape == (4,)


def test_morph_begins_and_ends_with_what_the_model_sees(case):
    _name, model, data = case
    a, b = data.test.x(2).split(1)
    if isinstance(model, Styled):
        way = abilities.morph(model, a, b, 3)
        assert torch.equal(way[0], model.imagine(model.invert(a)))
        assert torch.equal(way[-1], model.imagine(model.invert(b)))
        return
    if not isinstance(model, Encodes):
        with pytest.raises(BadInput, match="no space of its own"):
            abilities.morph(model, a, b, 3)
        return
    way = abilities.morph(model, a, b, 5)
    torch.testing.assert_close(way[0], model.decode(model.encode(a).mean).mean)
    torch.testing.assert_close(way[-1], model.decode(model.encode(b).mean).mean)


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_repair_leaves_observed_entries_bit_equal(case, noise):
    _, model, data = case
    if not isinstance(model, Repairs):
        pytest.skip("cannot repair")
    x = data.test.x(3)
    observed = torch.rand_like(x) < 0.5
    draws = model.repair(torch.where(observed, x, torch.zeros_like(x)), observed, 4, noise)
    assert draws.shape == (4, *x.shape)
    assert draws.isfinite().all()
    if noise == 0:
        assert torch.equal(draws[:, observed], x[observed].expand(4, -1))
    assert draws[:, ~observed].std() > 0


def test_save_and_load_preserve_outputs(case, tmp_path):
    name, model, data = case
    run = Run.create(tmp_path / "run", name, model.config, TrainingConfig(), data, 0)
    run.save_model(model)
    again = Run.load(tmp_path / "run").model
    torch.manual_seed(1)
    before = model.sample(4)
    torch.manual_seed(1)
    assert torch.equal(again.sample(4), before)


@pytest.mark.parametrize(("name", "kind"), CASES, ids=map("-".join, CASES))
def test_series_of_several_kinds_are_learned_or_refused_in_one_line(name, kind):
    if kind != "mixed" or name in ("recurrent", "cohort"):
        pytest.skip("learns them, as the tests above say, or no mixed entries at all")
    with pytest.raises(BadInput, match="use --model recurrent"):
        MODELS[name](small(name), some_series("mixed").space)


def test_the_recipe_is_valid(case):
    name, _, data = case
    config, recipe = MODELS[name].recipe(data.space, 100)
    check(config)
    check(recipe)
    assert isinstance(recipe, TrainingConfig)
    if name != "cohort":  # which cannot know how many subjects there are
        MODELS[name](config, data.space)


def test_few_pictures_are_learned_from_with_more_care():
    """What docs/recipe.md tells was found, beside what many pictures need."""
    few, many = (MODELS["vae"].recipe(Space((1, 48, 40), "byte"), n) for n in (320, 50_000))
    assert (few[0].doubt, few[0].sweeps, few[1].mirror, few[1].light) == (30.0, 1, True, 0.12)
    assert (many[0].doubt, many[1].mirror, many[1].light) == (1.0, False, 0.0)
    few, many = (MODELS["gan"].recipe(Space((1, 48, 40), "byte"), n) for n in (320, 50_000))
    assert (few[0].augment, few[0].gamma_real, few[0].gamma_fake, few[0].fold, few[1].mirror) == (
        0.8,
        9.0,
        9.0,
        2,
        True,
    )
    assert (many[0].augment, many[0].gamma_real, many[0].gamma_fake, many[0].fold, many[1].mirror) == (
        0.0,
        3.0,
        3.0,
        2,
        False,
    )


def test_a_recurrent_machine_can_do_all_it_can_with_several_kinds_at_once():
    data = some_series("mixed")
    model = MODELS["recurrent"](dataclasses.replace(small("recurrent"), members=2), data.space)
    model.prepare(data)
    x = data.test.x(3)
    holed = torch.where(torch.rand_like(x) < 0.7, x, torch.nan)
    steps = model.surprise_by_step(x)
    torch.testing.assert_close(steps.sum(1), model.surprise(x).value)
    levels = torch.tensor([np.inf, np.inf, 1, 2])
    drawn = model.forecast(holed, 4, 5)
    assert drawn.shape == (5, 3, 4, 4)
    for made in (
        drawn,
        model.sample(3),
        model.free_run(20),
        model.free_run(20, process_noise=True),
        model.dream(3),
        model.foresee(holed, 2),
    ):
        assert made.shape[-1] == 4
        assert made.isfinite().all()
        assert (made[..., 1:] >= 0).all()
        assert (made <= levels).all()
        assert (made[..., 2:] == made[..., 2:].round()).all()

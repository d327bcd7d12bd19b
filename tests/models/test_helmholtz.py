"""Machines small enough to be enumerated."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.space import Space
from reverie.maths import bounds
from reverie.models.helmholtz import Helmholtz, HelmholtzConfig
from reverie.nets.beliefs import KINDS
from reverie.nets.chains import Chain

BITS = Space((1, 2, 3), "bit")
WORLD = (torch.arange(64).unsqueeze(1) >> torch.arange(6) & 1).double().view(64, 1, 2, 3)


def machine(seed=0, space=BITS, **changes):
    """Two layers, far from any symmetry."""
    torch.manual_seed(seed)
    made = Helmholtz(HelmholtzConfig(**({"layers": (4, 3)} | changes)), space).double()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.7 * torch.randn_like(p))
    return made


@pytest.fixture(
    params=[
        ("sigmoid", "sigmoid", "sigmoid", "sigmoid"),
        ("darn", "nade", "darn", "darn"),
        ("nade", "darn", "nade", "nade"),
    ],
    ids="-".join,
)
def kinds(request):
    return dict(zip(("generation", "recognition", "top", "shown"), request.param, strict=True))


def exact_log_joint(model, x, z):
    """log p(x, z) (B, S), differentiable, for every x (B, ...) and every state z (S, Z)."""
    seen = model.decode(z)
    return torch.stack([seen.log_prob(one.expand(len(z), *one.shape)) for one in x]) + model.prior.log_prob(z)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_layer_is_normalised_draws_what_it_says_and_knows_its_gradient(kind):
    torch.manual_seed(1)
    layer = KINDS[kind](3, 4).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.randn_like(p))
    states = (torch.arange(16).unsqueeze(1) >> torch.arange(4) & 1).double()
    h = torch.rand(1, 3, dtype=torch.float64)
    chance = layer(h.expand(16, -1)).log_prob(states).exp()
    assert abs(chance.sum().item() - 1) < 1e-12
    n = 40_000
    drawn = layer(h.expand(n, -1)).place(torch.rand(n, 4, dtype=torch.float64))
    share = torch.bincount((drawn @ (2.0 ** torch.arange(4).double())).long(), minlength=16) / n
    assert ((share - chance).abs() < 4.5 * torch.sqrt(chance * (1 - chance) / n)).all()
    h, z, weight = torch.rand(7, 3).double(), (torch.rand(7, 4) < 0.5).double(), torch.randn(7).double()
    found = layer(h).pull(z, weight)
    for p, gradient in zip(layer.parameters(), found, strict=True):
        step = torch.randn_like(p)
        sides = []
        with torch.no_grad():
            for way in (1e-5, -1e-5):
                p.add_(way * step)
                sides.append((layer(h).log_prob(z) @ weight).item())
                p.sub_(way * step)
        assert math.isclose((sides[0] - sides[1]) / 2e-5, (gradient * step).sum().item(), rel_tol=1e-6, abs_tol=1e-8)


def test_p_of_x_sums_to_one_and_is_what_is_dreamt(kinds):
    model = machine(**kinds)
    found = model.surprise(WORLD)
    assert found.method == "exact"
    assert (found.error == 0).all()
    chance = (-found.value).exp()
    assert abs(chance.sum().item() - 1) < 1e-9
    n = 40_000
    share = torch.bincount((model.sample(n).flatten(1) @ (2.0 ** torch.arange(6).double())).long(), minlength=64) / n
    assert ((share - chance).abs() < 4.5 * torch.sqrt(chance * (1 - chance) / n)).all()


def test_weights_average_to_p_of_x_and_the_bound_rises(kinds):
    model = machine(**kinds)
    x, truth = WORLD[:8], -model.surprise(WORLD[:8]).value
    torch.manual_seed(0)
    with torch.no_grad():
        log_w = bounds.log_weights(model, x, 4000)
    means = []
    for k in (1, 5, 20):
        each = log_w.view(-1, k, 8).logsumexp(1) - math.log(k)
        ratio = (each - truth).exp()
        assert ((ratio.mean(0) - 1).abs() < 4 * ratio.std(0) / math.sqrt(len(ratio))).all()
        means.append(each.mean(0))
    assert (means[0] < means[1]).all()
    assert (means[1] < means[2]).all()
    assert (means[2] < truth).all()


def test_noise_places_what_the_law_says(kinds):
    model = machine(**kinds)
    q = model.encode(WORLD[5:6])
    n = 40_000
    z = q.place(torch.randn(n, 1, 7, dtype=torch.float64))[:, 0]
    chance = q.log_prob(model.states().unsqueeze(1)).exp()[:, 0]
    assert abs(chance.sum().item() - 1) < 1e-9
    share = torch.bincount((z @ (2.0 ** torch.arange(7).double())).long(), minlength=128) / n
    assert ((share - chance).abs() < 4.5 * torch.sqrt(chance * (1 - chance) / n)).all()
    assert q.sample().shape == (1, 7)
    assert q.sample(2).shape == (2, 1, 7)
    assert model.prior.sample().shape == (7,)


def test_with_the_posterior_for_q_weights_have_no_variance():
    """One layer, and a generation in which its bits are independent given x: recognition can be exact."""
    model = machine(layers=(3,), space=Space((3,), "bit"))
    with torch.no_grad():
        model.shown.weight.copy_(torch.diag(torch.tensor([1.0, -2.0, 0.5])))
        top, (up,) = model.dreamer[0], model.recogniser
        # log odds of z_i: a_i + log p(x_i | 1) - log p(x_i | 0), linear in x_i
        b, w, a = model.shown.bias, model.shown.weight.diagonal(), top.bias
        off = a + F.softplus(b) - F.softplus(b + w)
        up.weight.copy_(torch.diag(w))
        up.bias.copy_(off)
    x = (torch.arange(8).unsqueeze(1) >> torch.arange(3) & 1).double()
    log_w = bounds.log_weights(model, x, 50)
    torch.testing.assert_close(log_w, -model.surprise(x).value.expand(50, -1))


def gradients_of(model, x, repeats=40, copies=100):
    """Mean gradient by parameter over many draws without steps, and its standard error."""
    learners = model.learners()
    rounds = {id(p): [] for p in model.parameters()}
    for _ in range(repeats):
        for phase in model.phases(Batch(x.repeat(copies, 1, 1, 1)), 0):
            for p, gradient in zip(learners[phase.learner], phase.gradients, strict=True):
                rounds[id(p)].append(gradient)
    stacked = {key: torch.stack(each) for key, each in rounds.items() if each[0].numel()}  # the top is given nothing
    return {key: (each.mean(0), each.std(0) / math.sqrt(repeats) + 1e-9) for key, each in stacked.items()}


def check(found, parameters, loss, slack=0.0):
    for p, expected in zip(parameters, torch.autograd.grad(loss, parameters, retain_graph=True), strict=True):
        if not p.numel():
            continue
        mean, error = found[id(p)]
        assert ((mean - expected).abs() <= 4.5 * error + slack).all()


def test_wake_and_sleep_follow_their_free_energies():
    """Awake: of E_q[-log p(x, z)]; asleep: of E_p[-log q(z|x)]. Both enumerated, differentiated by autograd."""
    model = machine(rule="wake-sleep", draws=2)
    x, z = WORLD[3:5], model.states()
    found = gradients_of(model, x)
    with torch.no_grad():
        q = model.encode(x).log_prob(z.unsqueeze(1).expand(-1, 2, -1)).T.exp()
    loss = -(q * exact_log_joint(model, x, z)).sum(1).mean()
    check(found, model.learners()["dreamer"], loss)
    with torch.no_grad():
        joint = exact_log_joint(model, WORLD, z).exp()
    log_q = model.encode(WORLD).log_prob(z.unsqueeze(1).expand(-1, 64, -1)).T
    check(found, model.learners()["recogniser"], -(joint * log_q).sum())


@pytest.mark.parametrize("rule", ["vimco", "reweighted"])
def test_many_draws_follow_the_bound_of_many_draws(rule):
    """K = 2: the bound is a sum over all pairs of states. The dreamer follows it under both rules, the recogniser under VIMCO."""
    model = machine(layers=(2, 1), rule=rule, draws=2, recognise="wake")
    x, z = WORLD[3:5], model.states()
    found = gradients_of(model, x, copies=200)
    log_q = model.encode(x).log_prob(z.unsqueeze(1).expand(-1, 2, -1)).T
    log_w = exact_log_joint(model, x, z) - log_q
    pairs = torch.logaddexp(log_w.unsqueeze(1), log_w.unsqueeze(2)) - math.log(2)
    bound = ((log_q.unsqueeze(1) + log_q.unsqueeze(2)).exp() * pairs).sum((1, 2)).mean()
    check(found, model.learners()["dreamer"], -bound)
    if rule == "vimco":
        check(found, model.learners()["recogniser"], -bound)


def test_reweighting_follows_the_evidence_as_draws_grow():
    """At K = 5000 the mean gradient is that of log p(x) for the dreamer, and of -KL(p(z|x) || q(z|x)) for the recogniser."""
    model = machine(draws=5000, recognise="wake")
    x, z = WORLD[3:5], model.states()
    found = gradients_of(model, x, copies=2)
    log_p = exact_log_joint(model, x, z)
    check(found, model.learners()["dreamer"], -log_p.logsumexp(1).mean(), slack=3e-3)
    posterior = torch.softmax(log_p, 1).detach()
    log_q = model.encode(x).log_prob(z.unsqueeze(1).expand(-1, 2, -1)).T
    check(found, model.learners()["recogniser"], -(posterior * log_q).sum(1).mean(), slack=3e-3)


def test_both_is_the_mean_of_wake_and_sleep():
    draws = {}
    for recognise in ("wake", "sleep", "both"):
        model = machine(recognise=recognise)
        torch.manual_seed(5)
        draws[recognise] = [p.gradients for p in model.phases(Batch(WORLD[:4]), 0)][1]
    for wake, sleep, both in zip(*draws.values(), strict=True):
        torch.testing.assert_close(both, (wake + sleep) / 2)


def test_holes_reach_nothing():
    model = machine()
    x, observed = WORLD[:4].clone(), torch.rand(4, 1, 2, 3) < 0.6
    outcomes = []
    for behind in (0.0, torch.nan):
        torch.manual_seed(2)
        batch = Batch(torch.where(observed, x, behind), observed)
        outcomes.append([g for phase in model.phases(batch, 0) for g in phase.gradients])
    for a, b in zip(*outcomes, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)
    seen = (-model.surprise(x, observed).value).exp()
    for i in range(4):
        agree = ((x[i] == WORLD) | ~observed[i]).flatten(1).all(1)
        total = (-model.surprise(WORLD[agree]).value).exp().sum()
        torch.testing.assert_close(seen[i], total)


@pytest.mark.parametrize("method", ["importance", "metropolis"])
def test_repairs_are_draws_of_the_conditional(method):
    model = machine(repair=method)
    x, observed = WORLD[37:38], torch.tensor([[[[True, True, False], [True, False, True]]]])
    torch.manual_seed(0)
    draws = model.repair(x, observed, 2000)[:, 0]
    agree = ((x[0] == WORLD) | ~observed[0]).flatten(1).all(1)
    chance = (-model.surprise(WORLD[agree]).value).exp()
    chance = chance / chance.sum()
    share = torch.stack([(draws == one).flatten(1).all(1).double().mean() for one in WORLD[agree]])
    assert ((share - chance).abs() < 4.5 * torch.sqrt(chance * (1 - chance) / 2000) + 0.01).all()


def test_mean_field_recognition_is_factorial():
    """Each layer is given the chances of the one below, so that bits of different layers are independent."""
    model = machine(mean_field=True)
    q = model.encode(WORLD[9:10])
    chance = q.mean[0]
    z = model.states()
    expected = (z * chance.log() + (1 - z) * torch.log1p(-chance)).sum(1)
    torch.testing.assert_close(q.log_prob(z.unsqueeze(1))[:, 0], expected)


@pytest.mark.parametrize(("which", "kept"), [("none", 0), ("shown", 1), ("all", 2)])
def test_positive_weights_stay_so(which, kept):
    """Those begin without a sign; and what a step takes below zero is brought back in the next round."""
    model = Helmholtz(HelmholtzConfig(layers=(4, 3), positive=which), BITS)

    def signless():
        return [bool((layer.weight >= 0).all()) for layer in (model.shown, model.dreamer[1])]

    expected = [True] * kept + [False] * (2 - kept)
    assert signless() == expected
    with torch.no_grad():
        for p in model.parameters():
            p.sub_(1)
    for _ in model.phases(Batch(WORLD[:4].float()), 0):
        pass
    assert signless() == expected


@pytest.mark.parametrize("busy", [0.1, 0.5])
def test_a_machine_without_weights_dreams_as_many_bits_as_it_was_told(busy):
    model = Helmholtz(HelmholtzConfig(layers=(6, 4, 3), busy=busy, start=0.0), Space((1, 2, 2), "bit"))
    low, middle, top = model.prior.sample(20_000).split((6, 4, 3), 1)
    for bits, share in ((low, busy), (middle, busy), (top, 0.5)):
        assert abs(bits.mean() - share) < 4.5 * (share * (1 - share) / bits.numel()) ** 0.5


def test_rates_scale_the_gradients_of_what_they_link():
    gradients = []
    for rates in ((), (0.5, 2.0, 3.0)):
        model = machine(rates=rates, rule="wake-sleep", draws=1)
        torch.manual_seed(4)
        gradients.append([p.gradients for p in model.phases(Batch(WORLD[:4]), 0)])
    factors = [[3.0, 3.0, 2.0, 2.0, 0.5, 0.5], [0.5, 0.5, 2.0, 2.0]]
    for plain, scaled, factor in zip(*gradients, factors, strict=True):
        for a, b, f in zip(plain, scaled, factor, strict=True):
            torch.testing.assert_close(f * a, b)


def test_settings_that_make_no_machine_are_refused():
    for changes, word in (
        ({"layers": ()}, "layers"), ({"rates": (1.0,)}, "rates"), ({"mean_field": True, "recognition": "nade"}, "mean-field"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=word):
            Helmholtz(dataclasses.replace(HelmholtzConfig(layers=(3, 2)), **changes), BITS)
    with pytest.raises(BadInput, match="draws"):
        list(machine(rule="vimco", draws=1).phases(Batch(WORLD[:4]), 0))


def test_a_chain_down_has_no_rows_of_its_own():
    prior = machine().prior
    assert isinstance(prior, Chain)
    assert prior.mean.shape == (7,)
    assert prior.log_prob(torch.zeros(2, 3, 7, dtype=torch.float64)).shape == (2, 3)


def test_bits_that_are_shown_in_turn_are_never_told_exactly_where_some_are_hidden():
    """What is hidden is filled by draws: then there is an error, and the mean over many draws is the truth."""
    model = machine(layers=(3,), shown="darn")
    x, observed = WORLD[:1], torch.tensor([[[[True, True, False], [True, False, True]]]])
    agree = ((x == WORLD) | ~observed).flatten(1).all(1)
    truth = -(-model.surprise(WORLD[agree]).value).exp().sum().log()
    found = model.surprise(x, observed, draws=4000)
    assert found.method == "IWAE-4000"
    assert found.error > 0
    assert abs(found.value - truth) < 5 * found.error


def test_no_number_that_a_generator_can_give_draws_a_bit_that_has_no_chance():
    """In float32 a uniform number may be 0, and that of a normal one 1."""
    layer = KINDS["sigmoid"](0, 2)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([40.0, -40.0]))
    chain = Chain([layer], torch.zeros(1, 0), down=True)
    for noise in (torch.full((1, 2), 6.0), torch.full((1, 2), -40.0)):
        z = chain.place(noise)
        assert z.tolist() == [[1.0, 0.0]]
        assert chain.log_prob(z).item() == pytest.approx(0.0, abs=1e-6)

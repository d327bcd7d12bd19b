"""What every latent model has without having asked for it: here, temperature."""

import dataclasses
import itertools

import pytest
import torch

from reverie.core import abilities
from reverie.core.distributions import Bernoulli
from reverie.core.errors import BadInput
from reverie.core.model import Tempers
from reverie.core.space import Space
from reverie.models import MODELS
from reverie.models.helmholtz import Helmholtz, HelmholtzConfig
from reverie.models.ladder import LadderConfig, LadderVAE
from reverie.models.noise import Independent
from reverie.models.per_class import PerClass
from reverie.models.vae import VAE, VAEConfig

BITS = Space((1, 1, 3), "bit")


def states(n):
    """(2^n, n) every state of n bits, in float64."""
    return (torch.arange(2**n).unsqueeze(1) >> torch.arange(n) & 1).double()


def hardened(chance, temperature):
    """(2^n,) the law of n bits, drawn one after another, whose every bit is drawn by its chance, given those before it, to the
    power of 1 / temperature; from the chances (2^n,) of all states in the order of `states`, and from nothing else."""
    n = len(chance).bit_length() - 1
    table = chance.view(*[2] * n).permute(*range(n - 1, -1, -1))  # bit i is dimension i
    out = torch.ones_like(table)
    for i in range(n):
        rest = tuple(range(i + 1, n))
        upto = table.sum(dim=rest, keepdim=True) if rest else table  # p(z_<=i)
        power = (upto / upto.sum(i, keepdim=True)) ** (1 / temperature)
        out = out * power / power.sum(i, keepdim=True)
    return out.permute(*range(n - 1, -1, -1)).reshape(-1)


@pytest.mark.parametrize("temperature", [0.5, 1.7])
@pytest.mark.parametrize("kinds", [("sigmoid",) * 3, ("darn", "nade", "darn"), ("nade", "darn", "nade")], ids="-".join)
def test_a_helmholtz_machine_dreams_as_the_enumerated_law_at_a_temperature(kinds, temperature):
    """p_T(x) = sum_z p_T(z2) p_T(z1|z2) p_T(x|z1), each law's chances taken from the machine as it learned."""
    top, across, shown = kinds
    torch.manual_seed(1)
    model = Helmholtz(HelmholtzConfig(layers=(3, 2), top=top, generation=across, shown=shown), BITS).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))
    z2, z1, x = states(2), states(3), states(3)
    first, second = model.dreamer

    def law(of, given):
        return torch.stack([hardened(of(h.expand(8, -1)).exp(), temperature) for h in given])

    p2 = hardened(first(z2.new_zeros(4, 0)).log_prob(z2).exp(), temperature)
    p1 = law(lambda h: second(h).log_prob(z1), z2)
    px = law(lambda h: model.shown(h).log_prob(x.view(8, *BITS.shape)), z1)
    chance = p2 @ p1 @ px
    assert abs(chance.sum() - 1) < 1e-12
    hot, n = model.tempered(temperature), 40_000
    drawn = hot.sample(n).flatten(1) @ (2.0 ** torch.arange(3).double())
    share = torch.bincount(drawn.long(), minlength=8) / n
    assert ((share - chance).abs() < 4.5 * torch.sqrt(chance * (1 - chance) / n)).all()
    assert (chance - (-model.surprise(x.view(8, *BITS.shape)).value).exp()).abs().max() > 0.02  # it matters
    # The machine at a temperature is a machine: what it says of itself is the same law.
    z = states(5)
    seen = hot.decode(z[:, :3])
    nats = torch.stack([seen.log_prob(one.view(1, *BITS.shape).expand(32, -1, -1, -1)) for one in x])
    torch.testing.assert_close((nats + hot.prior.log_prob(z)).exp().sum(1), chance)


PRIORS = ["normal", "gaussian", "fitted", "mixture", "vamp"]


@pytest.mark.parametrize("name", PRIORS)
def test_priors_at_a_temperature_draw_what_they_say_and_have_powers_for_parts(name):
    """Draws at T > 1, weighted by p_1 / p_T, sum to one; and T gives every choice its power."""
    torch.manual_seed(2)
    model = VAE(VAEConfig(latent=2, width=8, depth=1, prior=name, components=3), BITS).double()
    if name in ("gaussian", "fitted"):
        z = torch.randn(500, 2).double() @ torch.tensor([[1.0, 0.7], [0.0, 0.5]]).double() + 1
        model.prior.fit(z)
    if name == "fitted":
        model.prior.place(3 * torch.randn(3, 2).double())
    with torch.no_grad():
        for p in model.prior.parameters():
            p.add_(torch.randn_like(p))
        prior, hot = model.prior, model.tempered(1.5).prior
        x = hot.sample(50_000)
        weight = (prior.log_prob(x) - hot.log_prob(x)).exp()
        assert abs(weight.mean() - 1) < 4.5 * weight.std() / len(x) ** 0.5 + 1e-4
        assert prior.sample().shape == hot.sample().shape == (2,)
        z = torch.randn(2, 2).double()
        if name in ("normal", "gaussian"):
            before, after = prior.log_prob(z), hot.log_prob(z)
            torch.testing.assert_close(after[0] - after[1], (before[0] - before[1]) / 1.5)
        elif name == "fitted":
            start, a = prior.start, prior.closeness
            spread = torch.linalg.inv(start.whitening.T @ start.whitening)
            centres = prior.mean + torch.linalg.solve(start.whitening, prior.centres.T).T
            each = torch.distributions.MultivariateNormal(centres, 1.5 * (1 - a**2) * spread)
            torch.testing.assert_close(
                hot.log_prob(z),
                torch.logsumexp(each.log_prob(z[:, None]), 1) - torch.tensor(3.0).log(),
                rtol=1e-5,
                atol=1e-5,
            )
        else:
            parts, log_weight = prior.parts()
            chosen = torch.distributions.Categorical(logits=log_weight / 1.5)
            each = torch.distributions.Normal(parts.loc, parts.scale * 1.5**0.5)
            mixture = torch.distributions.MixtureSameFamily(chosen, torch.distributions.Independent(each, 1))
            torch.testing.assert_close(hot.log_prob(z), mixture.log_prob(z))


def test_a_ladder_at_a_temperature_has_wider_noise_at_every_rung():
    torch.manual_seed(3)
    ladder = LadderVAE(LadderConfig(groups=(1, 2), width=8, latent=1), Space((1, 4, 4), "bit")).double()
    for p in ladder.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    hot = ladder.tempered(1.5)
    noise = torch.randn(5, ladder.prior.size).double()
    torch.testing.assert_close(hot.prior.place(noise), ladder.prior.place(1.5**0.5 * noise))
    with torch.no_grad():
        z = hot.prior.sample(20_000)
        weight = (ladder.prior.log_prob(z) - hot.prior.log_prob(z)).exp()
    assert abs(weight.mean() - 1) < 4.5 * weight.std() / len(z) ** 0.5


def test_temperature_one_is_the_machine_itself():
    model = VAE(VAEConfig(latent=2, width=8), BITS)
    assert model.tempered(1.0) is model


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf"), 1000.0])
def test_temperatures_that_cannot_be_are_refused(temperature):
    with pytest.raises(BadInput, match="give one from"):
        Helmholtz(HelmholtzConfig(layers=(3,)), BITS).tempered(temperature)


def test_who_has_a_temperature():
    have = {name for name, family in MODELS.items() if issubclass(family, Tempers)}
    assert have == {"vae", "ladder", "helmholtz"}
    with pytest.raises(BadInput, match="FlowPrior is known at temperature 1"):
        VAE(VAEConfig(latent=2, width=8, prior="flow"), BITS).tempered(0.5).sample(3)


def test_labels_and_machines_for_each_keep_their_shares():
    shares = torch.tensor([0.8, 0.2])
    told = Helmholtz(HelmholtzConfig(layers=(3,), classes=2), BITS)
    each = PerClass(Helmholtz, HelmholtzConfig(layers=(3,)), BITS, 2)
    for model in (told, each):
        model.label_shares.copy_(shares)
        before = [p.clone() for p in model.parameters()]
        cold = model.tempered(0.01)
        assert torch.equal(cold.label_shares, shares)
        given = torch.tensor([0, 1]).repeat(50)
        warm, frozen = (abilities.dream(m, 100, given) for m in (model, cold))
        assert cold.sample(100, given).shape == frozen.shape == (100, *BITS.shape)
        assert (frozen - frozen.round()).abs().mean() < 0.4 * (warm - warm.round()).abs().mean()
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(BadInput, match="Independent cannot dream at another temperature"):
        PerClass(Independent, Independent.Config(), BITS, 2).tempered(0.5)


def test_a_cold_machine_can_be_asked_everything():
    """A Tempered is a machine: surprise, repair and perceiving go on working, and are about p_T."""
    torch.manual_seed(0)
    model = Helmholtz(HelmholtzConfig(layers=(3,), sweeps=3), BITS)
    cold = model.tempered(0.5)
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=3))).view(-1, *BITS.shape)
    found = cold.surprise(every, draws=2000)
    p = torch.exp(-found.value.double())
    assert abs(p.sum() - 1) < 5 * (p * found.error).square().sum().sqrt() + 1e-3
    observed = torch.tensor([True, False, False]).view(1, *BITS.shape).expand(8, -1, -1, -1)
    draws = cold.repair(every, observed, 4)
    assert torch.equal(draws[:, observed], every[observed].expand(4, -1))
    assert torch.equal(cold.encode(every).mean, model.encode(every).mean)
    assert dataclasses.asdict(cold.config) == dataclasses.asdict(model.config)


def test_labels_that_are_drawn_hide_nothing_of_how_far_a_repair_can_be_trusted():
    vae = VAE(VAEConfig(latent=2, width=8, depth=1, components=1, classes=2), BITS).eval()
    x, observed = (
        torch.ones(3, *BITS.shape),
        torch.tensor([True, False, False]).view(1, *BITS.shape).expand(3, -1, -1, -1),
    )
    for method, part in (("importance", "ess"), ("metropolis", "acceptance")):
        found = vae.repaired(x, observed, 4, method=method)
        assert found.draws.shape == (4, *x.shape)
        assert getattr(found, part).shape == (3,)
        assert (getattr(found, part) > 0).all()


def test_draws_by_importance_have_the_labels_that_what_was_seen_speaks_for():
    """Two labels of which each wants a bit of its own: half a picture says which, and the other half follows."""
    torch.manual_seed(0)
    vae = VAE(VAEConfig(latent=1, width=8, depth=1, prior="normal", classes=2), Space((1, 1, 4), "bit")).eval()
    loc = torch.tensor([[4.0, 4.0, 4.0, 4.0], [-4.0, -4.0, -4.0, -4.0]]).view(2, 1, 1, 4)
    vae.decode = lambda z, given=None: Bernoulli(loc[given], 3)
    x = torch.ones(3, 1, 1, 4)
    x[1] = 0
    x[2, ..., 1] = 0
    observed = torch.tensor([True, True, False, False]).view(1, 1, 1, 4).expand(3, -1, -1, -1)
    found = vae.repaired(x, observed, 400, method="importance")
    on = found.draws[..., 2:].mean((0, 2, 3, 4))
    p = torch.sigmoid(torch.tensor(4.0)).item()
    assert on.tolist() == pytest.approx([p, 1 - p, 0.5], abs=0.1)
    assert torch.equal(found.draws[:, observed], x[observed].expand(400, -1))
    assert (found.ess > 1).all()

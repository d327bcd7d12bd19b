import math

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.model import Batch
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Space
from reverie.data import open_data
from reverie.maths.bounds import log_weights
from reverie.maths.objectives import bound_of
from reverie.models.vae import VAE, VAEConfig
from reverie.nets.flows import CouplingFlow
from reverie.nets.posteriors import FlowPosterior
from reverie.training import State, fabric_for, training


def test_the_reported_bound_is_the_bound_whatever_is_differentiated():
    x = torch.randint(2, (32, 1, 3, 3)).float()
    reports = []
    for changes in ({}, {"beta": 0.2}, {"free_bits": 2.0}, {"warmup": 1000}):
        torch.manual_seed(5)
        model = VAE(VAEConfig(latent=2, width=8, prior="normal", **changes), Space((1, 3, 3), "bit"))
        torch.manual_seed(6)
        reports += [phase.report for phase in model.phases(Batch(x), 0)]
    assert torch.stack(reports).std() < 1e-6


def test_a_posterior_with_a_flow_is_not_asked_for_the_density_that_it_told(monkeypatch):
    """Of one draw: going back through the flow costs as much as the draw, and is not exact."""
    asked, forward = [], CouplingFlow.forward

    def watched(self, x, context, inverse=False):
        asked.append(inverse)
        return forward(self, x, context, inverse)

    monkeypatch.setattr(CouplingFlow, "forward", watched)
    model = VAE(VAEConfig(latent=2, width=8, prior="normal", posterior="flow"), Space((1, 3, 3), "bit"))
    (found,) = model.phases(Batch(torch.randint(2, (32, 1, 3, 3)).float()), 0)
    assert asked == [False]
    found.loss.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_what_is_differentiated_is_what_was_asked_for():
    x = torch.randint(2, (32, 1, 3, 3)).float()

    def phase(**changes):
        torch.manual_seed(5)
        model = VAE(VAEConfig(latent=2, width=8, prior="normal", **changes), Space((1, 3, 3), "bit"))
        torch.manual_seed(6)
        return model, next(iter(model.phases(Batch(x), 0)))

    model, plain = phase()
    kl, base = model.prior.kl(q := model.encode(x), q.mean).mean(0).sum().item(), plain.loss.item()
    assert phase(beta=0.2)[1].loss.item() == pytest.approx(base - 0.8 * kl, abs=1e-5)
    assert phase(warmup=1000)[1].loss.item() == pytest.approx(base - 0.999 * kl, abs=1e-5)
    assert phase(free_bits=50.0)[1].loss.item() == pytest.approx(base - kl + 100, abs=1e-4)  # two latents
    for objective, draws, repeats in (("iwae", 5, 1), ("iwae", 2, 3), ("dreg", 5, 3), ("stl", 4, 1)):
        model, found = phase(objective=objective, draws=draws, repeats=repeats)
        torch.manual_seed(6)
        log_w = log_weights(model, x, draws * repeats).detach()
        truth = log_w.mean(0) if objective == "stl" else bound_of(log_w.view(repeats, draws, -1))
        torch.testing.assert_close(found.report, -truth.mean())
    assert isinstance(phase(posterior="flow")[0].posterior, FlowPosterior)


def test_the_bound_is_the_mean_log_weight():
    """Analytic KL and sampled log-ratio have the same mean."""
    model = VAE(VAEConfig(latent=2, width=8, prior="gaussian"), Space((1, 3, 3), "bit"))
    x = torch.randint(2, (1, 1, 3, 3)).float().expand(4000, -1, -1, -1)
    with torch.no_grad():
        log_w = log_weights(model, x, 1)[0]
        (phase,) = model.phases(Batch(x), 0)
    assert abs(phase.report + log_w.mean()) < 5 * log_w.std() / math.sqrt(4000)


def learned_kirby(net: str) -> VAE:
    data = open_data("kirby")
    config = VAEConfig(net=net, latent=4, width=8 if net == "conv" else 32, depth=1, prior="normal")
    torch.manual_seed(0)
    state = State(VAE(config, data.space), TrainingConfig(steps=700, batch=100, rate=5e-3))
    for _ in training(state, data, 0, fabric_for("cpu")):
        pass
    return state.average


@pytest.mark.parametrize(("net", "most"), [("mlp", 2.2), ("residual", 0.9), ("conv", 0.9)])
def test_it_learns_kirbys_world(net, most):
    """The exact KL over all twelve patterns; noise, and pixels taken one by one, have 3.81 nats."""
    data = open_data("kirby")
    kl_of_noise = 9 * math.log(2) - data.entropy
    assert kl_of_noise == pytest.approx(3.81, abs=0.01)
    nats = learned_kirby(net).surprise(data.support.float(), draws=200).value
    kl = (data.probability * (data.probability.log() + nats)).sum()
    assert 0 < kl < most


def test_a_hidden_row_is_repaired_from_the_seen_ones():
    """Where the two rows above agree and are neither empty nor full, so is the third: no other pattern has them."""
    x = torch.tensor([[1.0, 0, 1]]).expand(1, 1, 3, 3).clone()
    observed = torch.ones_like(x, dtype=torch.bool)
    observed[..., 2, :] = False
    draws = learned_kirby("residual").repair(torch.where(observed, x, torch.zeros(())), observed, 200)
    right = (draws[:, 0, 0, 2] == x[0, 0, 2]).all(-1).float().mean()
    assert right > 0.8


def test_what_is_hidden_from_the_encoder_is_still_explained(monkeypatch):
    torch.manual_seed(0)
    model = VAE(VAEConfig(latent=2, width=8, prior="normal", hide=1.0), Space((4,), "real"))
    batch = Batch(torch.randn(5, 4))

    def loss():
        torch.manual_seed(1)
        (phase,) = model.phases(batch, 0)
        return phase.loss

    partly = loss()
    monkeypatch.setattr(torch, "rand", lambda *shape, **more: torch.ones(*shape, **more))  # all, of every example
    wholly = loss()
    weights = [p for part in (model.encoder, model.decoder) for p in part.parameters() if p.dim() == 2]
    to_encoder, *_, to_decoder = torch.autograd.grad(wholly, [weights[0], weights[-1]])
    assert not to_encoder.any()  # from what it did not see it learns nothing
    assert to_decoder.any()
    assert not torch.equal(partly, wholly)
    model.eval()
    told = loss()
    monkeypatch.undo()
    assert torch.equal(told, loss())  # once learned, nothing is hidden


def test_pseudo_inputs_are_encoded_as_gaussians():
    with pytest.raises(BadInput, match="pseudo-inputs are encoded"):
        VAE(VAEConfig(prior="vamp", posterior="flow"), Space((1, 4, 4), "bit"))

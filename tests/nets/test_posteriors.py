import copy
import math

import pytest
import torch

from reverie.nets.posteriors import DiagonalGaussian, FlowPosterior, posterior

from .test_priors import chi_square, square


def bent(latent: int = 2, by: float = 1.0) -> FlowPosterior:
    """Far from where it starts: the last layers, which are zero there, have weights."""
    family = FlowPosterior(latent, features=3, layers=4, width=16)
    with torch.no_grad():
        for coupling in family.flow.couplings:
            coupling.net[-1].weight.normal_(std=by)
            coupling.net[-1].bias.normal_(std=by)
    return family


def code_for(family: FlowPosterior, batch: int = 3) -> torch.Tensor:
    code = 0.5 * torch.randn(batch, family.code)
    code[:, -3:] *= 4
    return code


def test_a_gaussian_is_what_its_code_says_within_bounds():
    q = posterior("gaussian", 2)(torch.tensor([[1.0, -2, 0.5, -20], [0, 0, 20, 0]]))
    truth = torch.distributions.Normal(q.mean, torch.tensor([[0.5, -7], [3, 0]]).exp())
    z = torch.randn(5, 2, 2)
    assert torch.equal(q.mean, torch.tensor([[1.0, -2], [0, 0]]))
    assert torch.allclose(q.log_prob(z), truth.log_prob(z).sum(-1), rtol=1e-5)


def test_a_flow_starts_as_the_gaussian():
    family = FlowPosterior(3, features=5)
    code, noise = torch.randn(4, family.code), torch.randn(2, 4, 3)
    q, gaussian = family(code), DiagonalGaussian(3)(code[:, :6])
    assert torch.allclose(q.place(noise), gaussian.place(noise), atol=1e-5)
    assert torch.allclose(q.mean, gaussian.mean, atol=1e-5)
    z = torch.randn(4, 3)
    assert torch.allclose(q.log_prob(z), gaussian.log_prob(z), atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_the_flow_integrates_to_one_for_each_x_and_its_samples_match():
    family = bent()
    q = family(code_for(family, 2))
    grid, area = square(16, 512)
    mass = q.log_prob(grid[:, None].expand(-1, 2, -1)).exp() * area
    draws = q.sample(10_000)
    assert (mass[:, 0] - mass[:, 1]).abs().sum() > 0.1  # x matters
    for i in range(2):
        assert abs(mass[:, i].sum() - 1) < 3e-3
        value, freedom = chi_square(mass[:, i], grid, draws[:, i])
        assert freedom > 3
        assert value < freedom + 5 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("latent", [1, 2, 5])
def test_place_and_log_prob_agree_by_the_jacobian(latent):
    """log q(z) = log N(noise; 0, I) - log |det dz/dnoise|, the determinant by automatic differentiation."""
    family = bent(latent).double()
    code = code_for(family, 6).double()
    noise = torch.randn(6, latent, dtype=torch.float64)
    q = family(code)
    jacobians = torch.autograd.functional.jacobian(lambda e: family(code).place(e).sum(0), noise)  # (Z, 6, Z)
    base = torch.distributions.Normal(0, 1).log_prob(noise).sum(-1)
    truth = base - torch.linalg.slogdet(jacobians.transpose(0, 1)).logabsdet
    z = q.place(noise)
    assert torch.allclose(q.log_prob(z), truth, atol=1e-10)
    assert torch.allclose(q.log_prob(z.clone()), truth, atol=1e-7)


@pytest.mark.parametrize("by", [1.0, 30.0])
def test_other_z_are_judged_as_its_own_are(by):
    """In float32; where splines are as steep as they can be, fewer digits are left, but always a number."""
    family = bent(4, by)
    code = code_for(family, 200)
    q = family(code)
    z = q.sample(5)
    own, other = q.log_prob(z), q.log_prob(z.clone())
    assert own.shape == (5, 200)
    assert own.isfinite().all()
    assert other.isfinite().all()
    off = (own - other).abs()
    assert off.median() < (1e-4 if by == 1 else 1e-2)
    if by == 1:
        assert off.max() < 1e-2


def test_a_draw_that_was_changed_is_no_longer_the_draw():
    family = bent()
    with torch.no_grad():
        q = family(code_for(family))
        z = q.sample()
        before = q.log_prob(z)
        z += 0.5
        assert torch.allclose(q.log_prob(z), q.log_prob(z.clone()))
        assert not torch.allclose(q.log_prob(z), before, atol=1e-2)


def test_draws_made_without_gradients_may_be_learned_from():
    """As in the wake phase: z is given, and the density of it moves."""
    family = bent()
    code = code_for(family)
    q = family(code)
    with torch.no_grad():
        z = q.sample(7)
    weights = list(family.parameters())
    own = torch.autograd.grad(q.log_prob(z).sum(), weights)
    other = torch.autograd.grad(family(code).log_prob(z.clone()).sum(), weights)
    for a, b in zip(own, other, strict=True):
        assert torch.equal(a, b)
    assert sum(float(a.abs().sum()) for a in own) > 0


def test_frozen_stops_gradients_to_everything_but_z():
    family = bent().double()
    code = code_for(family).double().requires_grad_()
    q = family(code)
    z = q.place(torch.randn(5, 3, 2, dtype=torch.float64))
    frozen = q.frozen()
    assert torch.allclose(frozen.log_prob(z), q.log_prob(z), atol=1e-7)
    assert torch.equal(frozen.mean, q.mean)
    fixed = z.detach().requires_grad_()
    frozen.log_prob(fixed).sum().backward()
    assert code.grad is None
    assert all(p.grad is None for p in family.parameters())
    (truth,) = torch.autograd.grad(q.log_prob(fixed).sum(), fixed)
    assert torch.allclose(fixed.grad, truth, atol=1e-8)
    some = fixed.detach()[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(frozen.log_prob, (some,))
    assert not frozen.sample().requires_grad
    assert all(p.requires_grad for p in family.parameters())


def test_the_path_alone_has_the_gradient_of_the_entropy():
    """Roeder, Wu & Duvenaud (2017): the part of d log q(z) that is not along the path of z is zero on average."""
    family = bent()
    code = code_for(family, 1).requires_grad_()
    noise = torch.randn(4000, 1, 2)
    q = family(code.expand(4000, -1).unsqueeze(1).flatten(0, 1))
    z = q.place(noise[:, 0])
    codes = []
    for log_q in (q.log_prob(z), q.frozen().log_prob(z)):
        (gradient,) = torch.autograd.grad(log_q.sum(), q.context, retain_graph=True)
        codes.append(gradient)
    off = codes[0] - codes[1]
    assert off.abs().max() > 1e-3  # they are two estimates, not one
    assert (off.mean(0).abs() < 5 * off.std(0) / math.sqrt(4000)).all()


def test_float64_copies_and_saved_weights():
    family = bent()
    code, z = code_for(family), torch.randn(3, 2)
    before = family(code).log_prob(z)
    twin = copy.deepcopy(family)
    other = bent()
    other.load_state_dict(family.state_dict())
    for same in (twin, other):
        assert torch.equal(same(code).log_prob(z), before)
    with torch.no_grad():
        family.flow.couplings[0].net[-1].bias.add_(1)
    assert torch.equal(twin(code).log_prob(z), before)
    assert not torch.allclose(family(code).log_prob(z), before, atol=1e-3)
    double = twin.double()(code.double())
    assert double.sample().dtype == torch.float64
    assert torch.allclose(double.log_prob(z.double()).float(), before, atol=1e-4)

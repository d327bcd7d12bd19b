import copy
import math

import pytest
import torch

from reverie.core.distributions import Gaussian, Reparameterised
from reverie.core.errors import BadInput
from reverie.nets.priors import FittedMixture, FlowPrior, LearnedGaussian, LearnedMixture, StandardNormal, prior
from reverie.nets.priors.mixtures import log_mixture


def skewed(n: int, latent: int) -> torch.Tensor:
    """Draws of a Gaussian with a mean and a covariance of no particular shape."""
    return torch.randn(n, latent) @ torch.randn(latent, latent) + torch.randn(latent)


def fitted_gaussian(latent: int) -> LearnedGaussian:
    prior = LearnedGaussian(latent)
    prior.fit(skewed(4000, latent))
    return prior


def fitted_mixture() -> FittedMixture:
    prior = FittedMixture(2, 5, 0.9)
    prior.fit(skewed(4000, 2))
    prior.place(prior.sample(3))
    return prior


def mixture() -> LearnedMixture:
    prior = LearnedMixture(2, 4)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter))
        prior.log_scale.clamp_(min=-1)
    return prior


def flow(latent: int = 2) -> FlowPrior:
    """Far from where it starts: the last layers, which are zero there, have weights."""
    prior = FlowPrior(latent, layers=4, width=16)
    with torch.no_grad():
        prior.loc.add_(0.5)
        prior.log_scale.add_(0.3)
        for coupling in prior.flow.couplings:
            coupling.net[-1].weight.normal_()
            coupling.net[-1].bias.normal_()
    return prior


MAKERS = {
    "normal": lambda: StandardNormal(2),
    "gaussian": lambda: fitted_gaussian(2),
    "fitted": fitted_mixture,
    "fitted, before its fit": lambda: FittedMixture(2, 5, 0.9),
    "mixture": mixture,
    "flow": flow,
}


def chi_square(mass: torch.Tensor, grid: torch.Tensor, draws: torch.Tensor, cell: float = 1.0) -> tuple[float, int]:
    """Of counts in square cells against the mass there, and the cells less one; those that expect few make one."""
    side = 2 * math.ceil(float(grid.abs().max()) / cell) + 2

    def number(z: torch.Tensor) -> torch.Tensor:
        return ((z / cell).floor().long() + side // 2).clamp(0, side - 1) @ torch.tensor([side, 1])

    expected = torch.zeros(side**2).index_add_(0, number(grid), mass) * len(draws)
    counts = torch.bincount(number(draws), minlength=side**2)
    many = expected > 20
    expected = torch.cat([expected[many], expected[~many].sum().clamp(min=1).view(1)])
    counts = torch.cat([counts[many], counts[~many].sum().view(1)])
    return float(((counts - expected).square() / expected).sum()), len(counts) - 1


def square(half: float, points: int) -> tuple[torch.Tensor, float]:
    """The centres of points^2 small squares that fill [-half, half]^2, and the area of one."""
    step = 2 * half / points
    side = (torch.arange(points) + 0.5) * step - half
    return torch.cartesian_prod(side, side), step**2


@torch.no_grad()
@pytest.mark.parametrize("name", MAKERS)
def test_priors_integrate_to_one_and_their_samples_match(name):
    prior = MAKERS[name]()
    grid, area = square(16, 640)
    mass = torch.cat([prior.log_prob(part) for part in grid.split(50_000)]).exp() * area
    assert abs(mass.sum() - 1) < 2e-3
    draws = prior.sample(20_000)
    value, freedom = chi_square(mass, grid, draws)
    assert freedom > 8
    assert value < freedom + 5 * math.sqrt(2 * freedom)
    if name != "flow":  # whose mean is documented to be something else
        assert ((draws.mean(0) - prior.mean).abs() < 5 * draws.std(0) / math.sqrt(20_000)).all()


@torch.no_grad()
@pytest.mark.parametrize("name", MAKERS)
def test_kl_is_the_integral_that_it_estimates(name):
    prior = MAKERS[name]()
    q = Gaussian(torch.tensor([[0.4, -0.8]]), torch.tensor([[-0.9, -0.4]]))
    grid, area = square(6, 300)
    log_q = q.log_prob(grid)
    truth = (area * log_q.exp() * (log_q - prior.log_prob(grid))).sum()
    kl = prior.kl(q, q.sample(20_000)[:, 0])
    if len(kl) == 1:  # a closed form, for q of this batch of one
        assert abs(kl.sum() - truth) < 1e-3
    else:
        assert abs(kl.mean() - truth) < 5 * kl.std() / math.sqrt(20_000)


class Opaque(Reparameterised):
    """A Gaussian that no prior knows for one, so that no closed form can be used."""

    def __init__(self, loc: torch.Tensor, log_scale: torch.Tensor):
        self.hidden = Gaussian(loc, log_scale)

    @property
    def mean(self) -> torch.Tensor:
        return self.hidden.mean

    def place(self, noise: torch.Tensor) -> torch.Tensor:
        return self.hidden.place(noise)

    def frozen(self) -> "Opaque":
        return Opaque(self.hidden.loc.detach(), self.hidden.log_scale.detach())

    def log_prob(self, x: torch.Tensor, observed: torch.Tensor | None = None) -> torch.Tensor:
        return self.hidden.log_prob(x, observed)


@torch.no_grad()
@pytest.mark.parametrize(
    "make", [lambda: StandardNormal(2), lambda: fitted_gaussian(2), lambda: FittedMixture(2, 5, 0.9)]
)
def test_any_q_has_a_kl(make):
    prior = make()
    loc, log_scale = torch.tensor([[0.4, -0.8]]), torch.tensor([[-0.9, -0.4]])
    q = Gaussian(loc, log_scale)
    z = q.sample(20_000)[:, 0]
    kl = prior.kl(Opaque(loc, log_scale), z)
    assert kl.shape == (20_000,)
    assert abs(kl.mean() - prior.kl(q, z).sum()) < 5 * kl.std() / math.sqrt(20_000)


@pytest.mark.parametrize("latent", [1, 6])
def test_a_mixture_in_narrow_parts_keeps_its_digits(latent):
    """Scales of e^-7 at places of order one: written out in float32 the square would be off by whole nats."""
    loc, z = torch.randn(50, latent), torch.randn(3, 7, latent)
    z[0] = loc[:7] + 1e-3 * torch.randn(7, latent)
    log_scale = torch.linspace(-7, 0, 50)[:, None].expand(50, latent).clone()
    log_weight = torch.log_softmax(torch.randn(50), 0)
    leaves = [t.requires_grad_() for t in (z, loc, log_scale, log_weight)]
    found = log_mixture(z, Gaussian(loc, log_scale), log_weight)
    wide = [t.detach().double().requires_grad_() for t in leaves]
    normal = torch.distributions.Normal(wide[1], wide[2].exp())
    truth = torch.logsumexp(normal.log_prob(wide[0][..., None, :]).sum(-1) + wide[3], -1)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), truth, rtol=1e-6, atol=1e-5)
    for a, b in zip(torch.autograd.grad(found.sum(), leaves), torch.autograd.grad(truth.sum(), wide), strict=True):
        assert torch.allclose(a.double(), b, rtol=1e-4, atol=1e-4)


def test_the_learned_mixture_starts_as_the_standard_normal_on_average():
    z = torch.randn(20, 2)
    off = (LearnedMixture(2, 20_000).log_prob(z) - StandardNormal(2).log_prob(z)).exp() - 1
    assert off.abs().max() < 0.2
    assert off.abs().median() < 0.02


def test_the_flow_starts_as_the_standard_normal():
    z = torch.randn(20, 3)
    assert torch.allclose(FlowPrior(3).log_prob(z), StandardNormal(3).log_prob(z), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "rate", "most"), [(lambda: LearnedMixture(2, 32), 0.1, 0.05), (lambda: FlowPrior(2, 4, 32), 0.02, 0.12)]
)
def test_what_is_learned_by_gradient_comes_near_the_entropy_of_its_data(make, rate, most):
    """Four narrow Gaussians, far apart: their mixture has the entropy of one of them and log 4. The flow joins them."""

    def draws(n: int) -> torch.Tensor:
        corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * 1.5
        return corners[torch.randint(4, (n,))] + 0.3 * torch.randn(n, 2)

    prior = make()
    optimiser = torch.optim.Adam(prior.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 120)
    for _ in range(120):
        optimiser.zero_grad()
        (-prior.log_prob(draws(256)).mean()).backward()
        optimiser.step()
        schedule.step()
    entropy = math.log(4) + math.log(2 * math.pi * math.e * 0.3**2)
    with torch.no_grad():
        above = -prior.log_prob(draws(20_000)) - entropy
    assert above.mean() < most
    assert above.mean() > -5 * above.std() / math.sqrt(20_000)


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("sure", [False, True], ids=["copied", "loaded"])
def test_a_copy_says_the_same_and_goes_its_own_way(name, sure):
    prior, z = MAKERS[name](), torch.randn(5, 2)
    before = prior.log_prob(z).detach()
    if sure:
        twin = MAKERS[name]()
        twin.load_state_dict(prior.state_dict())
    else:
        twin = copy.deepcopy(prior)
    with torch.no_grad():
        for tensor in prior.state_dict().values():
            tensor.mul_(2)
    assert torch.equal(twin.log_prob(z), before)


@pytest.mark.parametrize("name", MAKERS)
def test_float64_gives_float64(name):
    prior, z = MAKERS[name](), torch.randn(3, 5, 2, dtype=torch.float64)
    single = prior.log_prob(z.float())
    double = prior.double()
    assert double.log_prob(z).dtype == double.sample(3).dtype == double.mean.dtype == torch.float64
    assert double.log_prob(z).shape == (3, 5)
    assert torch.allclose(double.log_prob(z), single.double(), rtol=1e-4, atol=1e-4)


def test_every_name_is_a_prior():
    for name in ("normal", "gaussian", "fitted", "mixture", "flow"):
        assert prior(name, 3, 10, 0.5).log_prob(torch.zeros(4, 3)).shape == (4,)
        assert prior(name, 1, 10, 0.5).sample().shape == (1,)
    with pytest.raises(BadInput, match="of what space"):
        prior("vamp", 3, 10, 0.5)


def test_the_fitted_mixture_is_what_it_says_term_by_term():
    prior = FittedMixture(2, 5, 0.8)
    prior.fit(skewed(5000, 2))
    examples, z = torch.randn(3, 2), torch.randn(7, 2)
    prior.place(examples)
    centres = prior.mean + 0.8 * (examples - examples.mean(0))
    root = math.sqrt(1 - 0.8**2) * torch.linalg.inv(prior.start.whitening)
    parts = [torch.distributions.MultivariateNormal(c, scale_tril=root).log_prob(z) for c in centres]
    assert torch.allclose(prior.log_prob(z), torch.stack(parts).logsumexp(0) - math.log(3), atol=1e-4)


def test_a_fitted_mixture_of_no_closeness_is_the_gaussian():
    prior = FittedMixture(2, 5, 0.0)
    prior.fit(skewed(5000, 2))
    z = torch.randn(7, 2)
    before = prior.log_prob(z)
    prior.place(torch.randn(5, 2))
    assert torch.allclose(prior.log_prob(z), before, atol=1e-4)


@pytest.mark.parametrize("family", [Gaussian, Opaque])
def test_the_gaussian_follows_the_aggregate_of_what_is_perceived(family):
    """Its moments go to those of the aggregate: the spread of the means plus the mean of the variances."""
    prior = LearnedGaussian(2)
    mixing, centre = torch.tensor([[2.0, 0.0], [1.0, 0.5]]), torch.tensor([3.0, -1.0])
    for _ in range(2000):
        mean = torch.randn(256, 2) @ mixing.T + centre
        prior.follow(family(mean, torch.full_like(mean, math.log(0.5))))
    truth = mixing @ mixing.T + 0.25 * torch.eye(2)
    assert torch.allclose(prior.loc, centre, atol=0.1)
    assert torch.allclose(prior.covariance, truth, atol=0.2)
    found = torch.linalg.inv(prior.whitening.T @ prior.whitening)
    assert torch.allclose(found, prior.covariance, atol=0.1)


def test_a_gaussian_that_is_told_of_no_number_waits_for_the_loss_to_tell():
    prior = LearnedGaussian(2)
    before = prior.whitening.clone()
    for _ in range(30):
        prior.follow(Gaussian(torch.full((4, 2), torch.nan), torch.zeros(4, 2)))
    assert torch.equal(prior.whitening, before)

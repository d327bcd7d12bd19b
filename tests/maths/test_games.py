"""Games against what is known of them: the field of the simplest one, the best critic's loss, finite differences."""

import math

import pytest
import torch
from torch import nn

from reverie.maths.games import GAMES, critic_loss, slopes

DOUBLE = torch.float64


def field(name: str, gamma_real: float, gamma_fake: float, at: torch.Tensor) -> torch.Tensor:
    """Where (psi, theta) move in the Dirac game: real examples at 0, dreams at theta, D(x) = psi x."""
    psi, theta = at[:1], at[1:]
    game, real = GAMES[name], torch.zeros(1, 1, dtype=DOUBLE)

    def critic(x: torch.Tensor) -> torch.Tensor:
        return (psi * x).squeeze(1)

    loss, _ = critic_loss(game, critic, real, theta.view(1, 1), gamma_real, gamma_fake)
    (of_psi,) = torch.autograd.grad(loss, psi, create_graph=True)
    # the generator's loss through the same critic; `psi` is what it is
    dreamt = game.generator(critic(real), critic(theta.view(1, 1)))
    (of_theta,) = torch.autograd.grad(dreamt, theta, create_graph=True)
    return -torch.cat([of_psi, of_theta])


def eigenvalues(name: str, gamma_real: float, gamma_fake: float) -> torch.Tensor:
    """Of the field's Jacobian at the equilibrium, by differences: the field itself holds detached copies of theta."""
    step, columns = 1e-5, []
    for direction in torch.eye(2, dtype=DOUBLE):
        ends = (
            field(name, gamma_real, gamma_fake, (sign * step * direction).requires_grad_()).detach() for sign in (1, -1)
        )
        columns.append(torch.sub(*ends) / (2 * step))
    return torch.linalg.eigvals(torch.stack(columns, 1))


def expected(trace: float, squared: complex) -> list[complex]:
    root = complex(squared) ** 0.5
    return [trace + root, trace - root]


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("name", ["relativistic", "classic"])
def test_eigenvalues_of_the_dirac_game(name, gamma):
    truths = {
        (0.0, 0.0): expected(0, -0.25),
        (gamma, 0.0): expected(-gamma / 2, gamma**2 / 4 - 0.25),
        (gamma, gamma): expected(-gamma, gamma**2 - 0.25),
    }
    for penalties, truth in truths.items():
        found = eigenvalues(name, *penalties).tolist()
        for value in truth:  # where the roots meet they are known to the root of the precision
            assert min(abs(value - other) for other in found) < 1e-4


def test_the_hinge_turns_twice_as_fast():
    # Its slope at 0 is 1 and not 1/2.
    assert sorted(value.imag for value in eigenvalues("hinge", 0.0, 0.0).tolist()) == pytest.approx([-1, 1], abs=1e-6)


def test_indifferent_critics_pay_the_known_price():
    nothing = torch.zeros(5, dtype=DOUBLE)
    prices = {"relativistic": (math.log(2), math.log(2)), "classic": (2 * math.log(2), math.log(2)), "hinge": (2, 0)}
    for name, (critic, generator) in prices.items():
        assert GAMES[name].critic(nothing, nothing).item() == pytest.approx(critic)
        assert GAMES[name].generator(nothing, nothing).item() == pytest.approx(generator)


def test_a_relativistic_pair_knows_only_the_difference():
    real, fake = torch.randn(2, 7)
    game = GAMES["relativistic"]
    torch.testing.assert_close(game.critic(real + 3, fake + 3), game.critic(real, fake))
    torch.testing.assert_close(game.generator(real, fake), game.critic(fake, real))


def worlds() -> tuple[torch.Tensor, torch.Tensor]:
    """p and q over four outcomes, in sixteenths."""
    return torch.tensor([8, 4, 3, 1], dtype=DOUBLE) / 16, torch.tensor([2, 2, 8, 4], dtype=DOUBLE) / 16


def entropy(p: torch.Tensor) -> float:
    return -(p * p.log()).sum().item()


def divergence(p: torch.Tensor, q: torch.Tensor) -> float:
    """Jensen-Shannon, nats."""
    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2


def every_pair(judged: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The judgements of 256 pairs, as often as they come under p and q."""
    p, q = worlds()
    counts = (16 * p).long(), (16 * q).long()
    real, fake = (judged.repeat_interleave(n) for n in counts)
    return real.repeat_interleave(16), fake.repeat(16)


def best(name: str) -> torch.Tensor:
    p, q = worlds()
    return torch.sign(p - q) if name == "hinge" else torch.log(p / q)


def known(name: str) -> float:
    p, q = worlds()
    if name == "hinge":
        return 2 - (p - q).abs().sum().item()
    if name == "classic":
        return 2 * math.log(2) - 2 * divergence(p, q)
    return math.log(2) - divergence(torch.outer(p, q).flatten(), torch.outer(q, p).flatten())


@pytest.mark.parametrize("name", list(GAMES))
def test_the_best_critic_pays_what_the_divergence_says(name):
    assert GAMES[name].critic(*every_pair(best(name))).item() == pytest.approx(known(name), abs=1e-12)
    for _ in range(20):
        other = best(name) + torch.randn(4, dtype=DOUBLE)
        assert GAMES[name].critic(*every_pair(other)).item() >= known(name) - 1e-12


def test_slopes_against_finite_differences():
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x = torch.randn(4, 2, 3, dtype=DOUBLE, requires_grad=True)
    found = slopes(net(x).squeeze(1), x)
    step, squares = 1e-6, torch.zeros(4, dtype=DOUBLE)
    for i in range(6):
        away = step * torch.eye(6, dtype=DOUBLE)[i].view(1, 2, 3)
        with torch.no_grad():
            squares += ((net(x + away) - net(x - away)).squeeze(1) / (2 * step)).square()
    torch.testing.assert_close(found, squares, rtol=1e-6, atol=1e-9)


def test_the_penalties_gradient_against_finite_differences():
    net = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    real, fake = torch.randn(2, 6, 3, dtype=DOUBLE)

    def loss() -> torch.Tensor:
        return critic_loss(GAMES["relativistic"], lambda x: net(x).squeeze(1), real, fake, 0.7, 1.9)[0]

    weight = net[0].weight
    (found,) = torch.autograd.grad(loss(), weight)
    for i, j in ((0, 0), (4, 2), (2, 1)):
        ends = []
        for step in (1e-6, -2e-6):
            weight.data[i, j] += step
            ends.append(loss().item())
        weight.data[i, j] += 1e-6
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(found[i, j].item(), rel=1e-6)


def test_the_whole_is_game_and_penalties_summed_over_entries():
    steep = torch.tensor([[1.0, 2.0], [0.5, -1.0]])
    real, fake = torch.randn(2, 3, 2, 2)
    whole, game = critic_loss(GAMES["classic"], lambda x: (x * steep).sum((1, 2)), real, fake, 2.0, 4.0)
    assert (whole - game).item() == pytest.approx((1 + 2) * (1 + 4 + 0.25 + 1), rel=1e-5)
    with torch.no_grad():
        whole, game = critic_loss(GAMES["classic"], lambda x: (x * steep).sum((1, 2)), real, fake, 2.0, 4.0)
    assert whole == game


def test_the_critics_loss_reaches_no_generator():
    fake = torch.randn(3, 2, requires_grad=True)
    weight = torch.randn(2, requires_grad=True)
    loss, _ = critic_loss(GAMES["hinge"], lambda x: x @ weight, torch.randn(3, 2), fake, 1.0, 1.0)
    loss.backward()
    assert fake.grad is None
    assert weight.grad is not None

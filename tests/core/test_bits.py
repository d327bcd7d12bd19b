import pytest
import torch
import torch.nn.functional as F

from reverie.core.bits import bits_log_prob, coins


@pytest.mark.parametrize("n", [0, 1, 101, 200, 784])  # none; one; a prime; sizes that are cut into parts
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_log_probabilities_are_right_however_sure_the_logits_are(n, scale):
    torch.manual_seed(0)
    logits, x = scale * torch.randn(6, n), (torch.rand(6, n) < 0.5).float()
    truth = -F.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none").sum(-1)
    plain = bits_log_prob(logits, x)
    assert torch.allclose(plain.double(), truth, rtol=1e-6, atol=1e-6 * max(n, 1))
    with torch.no_grad():
        assert torch.equal(bits_log_prob(logits, x), plain)
    assert torch.allclose(bits_log_prob(logits.double(), x.double()), truth, rtol=1e-13, atol=1e-12)


@pytest.mark.parametrize("others", [True, False])
def test_gradients_are_those_of_autograd(others):
    torch.manual_seed(0)
    logits = (5 * torch.randn(4, 130, dtype=torch.float64)).requires_grad_()
    x = torch.rand(4, 130, dtype=torch.float64).requires_grad_(others)
    weight = torch.randn(4, dtype=torch.float64)
    asked = (logits, x) if others else (logits,)
    found = torch.autograd.grad(bits_log_prob(logits, x) @ weight, asked)
    truth = torch.autograd.grad((x * logits - F.softplus(logits)).sum(-1) @ weight, asked)
    for a, b in zip(found, truth, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_coins_fall_as_often_as_they_should():
    torch.manual_seed(0)
    p = torch.tensor([0.0, 0.1, 0.7, 1.0])
    share = coins(p.expand(40_000, 4)).mean(0)
    assert ((share - p).abs() <= 4.5 * (p * (1 - p) / 40_000).sqrt()).all()


def test_half_precision_loses_no_nats():
    """Logits that are known to eight binary digits are summed as if to more."""
    torch.manual_seed(0)
    logits, x = (3 * torch.randn(5, 784)).bfloat16(), (torch.rand(5, 784) < 0.5).bfloat16()
    exact = (x.double() * logits.double() - torch.nn.functional.softplus(logits.double())).sum(-1)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(bits_log_prob(logits, x).double(), exact, rtol=1e-5, atol=1e-3)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(bits_log_prob(logits, x).sum(), logits)
    torch.testing.assert_close(gradient.double(), (x.double() - torch.sigmoid(logits.double())), rtol=0, atol=2**-8)

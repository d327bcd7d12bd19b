import torch

from reverie.core.shallow import Shallow


def drawn(members=2, size=3, units=5):
    shapes = (size, size), (size, units), (units, size), (size,), (units,)
    return Shallow(*(torch.randn(members, *shape, dtype=torch.float64) for shape in shapes))


def test_the_jacobian_is_that_of_autograd_and_the_step_is_the_equation():
    weights = drawn()
    z = torch.randn(2, 4, 3, dtype=torch.float64)
    jacobian, regions, after = weights.jacobian(z), weights.regions(z), weights.step(z)
    for s in range(2):
        A, W1, W2, h1, h2 = (part[s] for part in weights)
        for b in range(4):

            def step(x, A=A, W1=W1, W2=W2, h1=h1, h2=h2):
                return A @ x + W1 @ torch.relu(W2 @ x + h2) + h1

            torch.testing.assert_close(after[s, b], step(z[s, b]))
            torch.testing.assert_close(jacobian[s, b], torch.autograd.functional.jacobian(step, z[s, b]))
            assert (regions[s, b] == (W2 @ z[s, b] + h2 > 0)).all()


def test_a_member_alone_moves_as_it_did_among_others():
    weights = Shallow(*(part.float().requires_grad_() for part in drawn()))
    z = torch.randn(2, 4, 3)
    alone = weights.member(1)
    assert alone.A.dtype == torch.float64
    assert not alone.A.requires_grad
    torch.testing.assert_close(alone.step(z[1:].double()).float(), weights.step(z)[1:].detach())

"""Inversion where the answer is known: styles of the generator's own pictures, and of linear ones."""

import torch

from reverie.models.inversion import invert, nearest
from reverie.nets.style import StyleGenerator


def nothing(x: torch.Tensor) -> list[torch.Tensor]:
    return [torch.ones_like(x)]


class Linear(torch.nn.Module):
    """x = A (first style, second style): one picture for each pair of styles, and no other has it."""

    def __init__(self):
        super().__init__()
        self.matrix = torch.linalg.qr(torch.randn(6, 4))[0]

    def forward(self, styles: torch.Tensor) -> torch.Tensor:
        return styles.flatten(1) @ self.matrix.T


def test_the_styles_of_a_linear_generator_are_found():
    net, truth = Linear(), torch.randn(5, 2, 2)
    found = invert(net, nothing, torch.randn(5, 2, 2), net(truth), None, 800)
    assert (found - truth).abs().max() < 0.05


def test_what_was_not_observed_decides_nothing():
    net, x = Linear(), torch.randn(3, 6)
    observed = torch.tensor([True, False, True, True, False, True]).expand(3, 6)
    starts = torch.randn(3, 2, 2)
    found = [
        invert(net, nothing, starts, torch.where(observed, x, other), observed, 20) for other in (0.0, 7.0, torch.nan)
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_no_example_knows_of_the_others():
    net, x, starts = Linear(), torch.randn(4, 6), torch.randn(4, 2, 2)
    together = invert(net, nothing, starts, x, None, 30)
    alone = torch.cat(
        [invert(net, nothing, s, row, None, 30) for row, s in zip(x.split(1), starts.split(1), strict=True)]
    )
    torch.testing.assert_close(together, alone)


def test_pictures_of_the_generator_itself_come_back():
    net = StyleGenerator((1, 16, 12), latent=4, width=4, depth=1, style=6, mapping=2, noise=False)
    with torch.no_grad():
        x = net(net.styles(torch.randn(3, 4)))
        found = invert(net, nothing, net.styles(torch.randn(3, 4)), x, None, 300)
        again = net(found)
    assert ((again - x).square().mean() / x.var()).item() < 0.01  # 20 dB below the pictures themselves


def test_the_nearest_is_the_nearest_where_it_was_observed():
    pictures = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    x = torch.tensor([[0.9, 0.1], [0.9, 0.9], [torch.nan, 0.9]])
    observed = torch.tensor([[True, True], [True, False], [False, True]])
    assert nearest(pictures, x, observed).tolist() == [1, 1, 2]

"""What an encoder sees, entry by entry."""

import math

import pytest
import torch

from reverie.core.errors import BadInput
from reverie.core.space import Column, Space
from reverie.nets.senses import Senses

COLUMNS = (
    Column("age", "real"),
    Column("town", "category", 3),
    Column("visits", "count"),
    Column("one", "category", 1),
)
TABLE = Space((4,), "mixed", COLUMNS)
SPACES = {
    "bit": Space((1, 2, 3), "bit"),
    "byte": Space((3, 4, 5), "byte"),
    "real": Space((6,), "real"),
    "series": Space((7, 2), "real"),
    "count": Space((2, 3, 3), "count"),
    "spikes": Space((5, 2), "count"),
    "mixed": TABLE,
}


def example(space: Space, n: int = 4) -> torch.Tensor:
    if space.columns:
        return torch.tensor([[-1.0, 2, 3, 0], [0.2, 0, 0, 0], [-1.0, 1, 9, 0], [0, 2, 1, 0]])[:n]
    return torch.randint(5, (n, *space.shape)).float()


@pytest.mark.parametrize("kind", SPACES)
@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("holes", [False, True])
def test_the_shape_is_as_stated_and_nothing_behind_a_hole_is_seen(kind, classes, holes):
    space = SPACES[kind]
    senses = Senses(space, classes, holes)
    x, given = example(space), torch.tensor([0, 2, 1, 1]) if classes else None
    observed = torch.rand_like(x) < 0.5
    seen = senses(x, observed, given)
    assert seen.shape == (4, *senses.shape)
    for hidden in (math.nan, -5.0, math.inf):
        behind = torch.where(observed, x, hidden).requires_grad_()
        assert torch.equal(senses(behind, observed, given), seen)
        if senses(behind, observed, given).requires_grad:
            (gradient,) = torch.autograd.grad(senses(behind, observed, given).sum(), behind)
            assert (gradient[~observed] == 0).all()
            assert gradient.isfinite().all()
    assert not list(senses.state_dict())


def test_without_anything_to_add_it_is_x_itself():
    for kind in ("bit", "byte", "real", "series"):
        x = example(SPACES[kind])
        assert Senses(SPACES[kind])(x) is x


def test_a_row_of_a_table_is_seen_column_by_column():
    log4, log10, log2 = math.log(4), math.log(10), math.log(2)
    expected = torch.tensor(
        [
            [-1.0, 0, 0, 1, log4, 1],
            [0.2, 1, 0, 0, 0, 1],
            [-1.0, 0, 1, 0, log10, 1],
            [0, 0, 0, 1, log2, 1],
        ]
    )
    x = example(TABLE)
    torch.testing.assert_close(Senses(TABLE)(x), expected)
    observed = torch.tensor([[True, False, True, False]]).expand(4, 4)
    hidden = expected * torch.tensor([1.0, 0, 0, 0, 1, 0])
    torch.testing.assert_close(Senses(TABLE)(x, observed), hidden)
    given = torch.tensor([1, 0, 0, 1])
    everything = torch.cat([hidden, observed.float(), torch.eye(2)[given]], 1)
    torch.testing.assert_close(Senses(TABLE, 2, True)(x, observed, given), everything)


def test_counts_are_seen_as_logarithms():
    for kind in ("count", "spikes"):
        x = example(SPACES[kind])
        torch.testing.assert_close(Senses(SPACES[kind])(x), torch.log(1 + x))


def test_pictures_get_holes_and_labels_as_channels():
    space = SPACES["byte"]
    x, given = torch.rand(4, 3, 4, 5), torch.tensor([1, 0, 1, 1])
    observed = torch.rand_like(x) < 0.5
    seen = Senses(space, 2, True)(x, observed, given)
    assert torch.equal(seen[:, :3], torch.where(observed, x, 0.0))
    assert torch.equal(seen[:, 3:6], observed.float())
    assert torch.equal(seen[:, 6:], torch.eye(2)[given].view(4, 2, 1, 1).expand(4, 2, 4, 5))
    assert (Senses(space, 2, True)(x, None, given)[:, 3:6] == 1).all()


def test_a_series_is_flattened_to_be_given_more():
    x, given = torch.randn(4, 7, 2), torch.tensor([1, 0, 1, 1])
    seen = Senses(SPACES["series"], 2, True)(x, None, given)
    assert torch.equal(seen, torch.cat([x.flatten(1), torch.ones(4, 14), torch.eye(2)[given]], 1))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "needs labels"),
        (torch.tensor([0, 1, 2, 3]), "from 0 to 3"),
        (torch.tensor([-1, 1, 2, 0]), "from -1 to 2"),
        (torch.tensor([1, 2]), "2 labels were given for 4 examples"),
    ],
)
def test_labels_that_cannot_be_are_refused_with_those_that_can(given, message):
    with pytest.raises(BadInput, match=rf"{message}.*one of 0 to 2 for each example"):
        Senses(SPACES["real"], classes=3)(example(SPACES["real"]), None, given)

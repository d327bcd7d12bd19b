"""What is looked at while a model learns, against machines whose dreams are known."""

import dataclasses

import numpy as np
import pytest
import torch

from reverie.core.model import Model
from reverie.data import open_data
from reverie.data.arrays import from_array
from reverie.data.config import DataConfig
from reverie.evaluation import evaluate
from reverie.evaluation.sets import LOOKS, Judge


class Copier(Model):
    """Dreams of what it is given, moved by so much."""

    def __init__(self, x: torch.Tensor, space, moved: float = 0.0):
        super().__init__(None, space)
        self.x, self.moved = x, moved

    def sample(self, n, given=None):
        return self.x[torch.randint(len(self.x), (n,))] + self.moved


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


def test_the_nearer_the_dreams_the_smaller_the_distance(digits):
    judge, held = Judge.of(digits, 0), digits.valid.x()
    seen = [judge(Copier(held, digits.space, moved))["kernel distance"] for moved in (0.0, 0.1, 0.3)]
    assert seen[0] < 0.05  # below zero even: some dreams are the very examples that they are compared with
    assert max(seen[0], 0) < seen[1] < seen[2]


def test_copies_and_new_examples_are_told_apart(digits):
    judge = Judge.of(digits, 0)
    assert judge(Copier(digits.train.x(1000), digits.space))["memorisation"] == 0
    assert judge(Copier(digits.valid.x(), digits.space))["memorisation"] == pytest.approx(1, abs=0.05)


def test_of_points_it_is_the_score_of_that_name():
    data = open_data("rings", count=2000)
    model = Copier(data.train.x(), data.space, 0.5)
    told = {score.name: score for score in evaluate(model, data, split="valid", dreams=LOOKS, examples=LOOKS)}
    assert Judge.of(data, 0)(model)["kernel distance"] == pytest.approx(told["kernel_distance"].value, rel=1e-6)


def test_a_look_is_always_the_same_and_leaves_chance_alone(digits):
    judge, model = Judge.of(digits, 3), Copier(digits.train.x(), digits.space)
    before = torch.random.get_rng_state()
    first = judge(model)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    assert judge(model) == first == Judge.of(digits, 3)(model)


def test_dreams_that_are_no_numbers_are_no_better(digits):
    assert Judge.of(digits, 0)(Copier(digits.train.x() * torch.nan, digits.space)) == {}


def test_where_there_is_nothing_to_compare_with_there_is_no_judge(digits):
    few = from_array(
        "few",
        np.arange(40 * 16, dtype=np.uint16).astype(np.uint8).reshape(40, 1, 4, 4),
        {"source": "few"},
        DataConfig(),
    )
    assert Judge.of(few, 0) is None
    assert Judge.of(dataclasses.replace(digits, valid=type(digits.valid)(digits.valid.raw().numpy(), 0, 0)), 0) is None
    assert Judge.of(open_data("lorenz"), 0) is None

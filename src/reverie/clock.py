"""Runs by the clock: how many rounds --minutes hold, and whether they still do on the way."""

import copy
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric

from reverie.core.config import to_json
from reverie.data import Data
from reverie.run import Run
from reverie.training import State, training

LEARNING = 0.9  # of the minutes that are asked for; the rest is for scores and the report
CLOCKS = (1 / 4, 1 / 2, 3 / 4, 7 / 8, 15 / 16)  # of a run by the clock: the shares after which it looks at the clock
SLACK = 0.01  # of the rounds: with so few more or less they are left as they are


def rounds_in(minutes: float, state: State, data: Data, seed: int, fabric: Fabric) -> int:
    """How many rounds fit into `minutes`, from a few real ones made on a copy; at least 1.

    A share of the time is left for what comes after the learning.
    """
    trial = State(copy.deepcopy(state.model), state.config)
    rounds = training(trial, data, seed, fabric)
    patience = min(4.0, 6 * minutes)
    with torch.random.fork_rng():
        next(rounds)  # the first round pays for allocations
        start, done = time.perf_counter(), 0
        while (spent := time.perf_counter() - start) < patience and trial.step < state.config.steps:
            next(rounds)
            done += 1
    if not done:
        return state.config.steps
    spent = fabric.broadcast(spent / done)
    return max(1, int(60 * LEARNING * minutes / spent))


def looks_at(run: Run, state: State, until: float, fabric: Fabric) -> Callable[[int], bool]:
    """Called after each round: looks at the clock where a share of CLOCKS is done, and settles the number of rounds again by the pace since the
    last look. Whether it has."""
    seen, begun, shares = state.step, time.monotonic(), list(CLOCKS)

    def look(step: int) -> bool:
        nonlocal seen, begun, shares
        steps = state.config.steps
        if not shares or step < shares[0] * steps or step == steps:
            return False
        shares = [share for share in shares if step < share * steps]
        now = time.monotonic()
        pace = (now - begun) / (step - seen)
        seen, begun = step, now
        left = fabric.broadcast(max(1, int((until - now) / pace)) if now < until else 1)
        if abs(step + left - steps) <= SLACK * steps:
            return False
        state.config = state.config.settled_again(step, step + left)
        run.config["training"] = to_json(state.config)
        if fabric.is_global_zero:
            run.save_config()
        return True

    return look

"""pyro's reweighted wake-sleep in the benchmarks' own environment, for machines.py.

    python pyro_worker.py ROWS.npy

Trains some rounds at a time: their number comes in on a line of standard input; the seconds they took and their mean
loss go out.
"""

import itertools
import sys
import time

import numpy as np
import pyro
import torch
from pyro.distributions import Bernoulli
from pyro.infer import SVI, ReweightedWakeSleep
from pyro.optim import Adam
from torch import nn

BATCH = 128


class Machine(nn.Module):
    def __init__(self):
        super().__init__()
        self.top = nn.Parameter(torch.zeros(200))
        self.middle, self.shown = nn.Linear(200, 200), nn.Linear(200, 784)
        self.first, self.second = nn.Linear(784, 200), nn.Linear(200, 200)

    def model(self, x):
        pyro.module("machine", self)
        with pyro.plate("pictures", len(x)):
            high = pyro.sample("high", Bernoulli(logits=self.top.expand(len(x), 200)).to_event(1))
            low = pyro.sample("low", Bernoulli(logits=self.middle(high)).to_event(1))
            pyro.sample("x", Bernoulli(logits=self.shown(low)).to_event(1), obs=x)

    def guide(self, x, observations=None):  # the second: what it dreamt
        pyro.module("machine", self)
        x = x if observations is None else observations["x"]
        with pyro.plate("pictures", len(x)):
            low = pyro.sample("low", Bernoulli(logits=self.first(x)).to_event(1))
            pyro.sample("high", Bernoulli(logits=self.second(low)).to_event(1))


def main() -> None:
    torch.set_num_threads(1)
    x = torch.from_numpy(np.load(sys.argv[1])).float().flatten(1)
    pyro.enable_validation(False)
    machine = Machine()
    # It takes two draws at least, and dreams as often as it draws unless told otherwise: wake for the model, sleep for the guide.
    loss = ReweightedWakeSleep(num_particles=2, insomnia=0.0, num_sleep_particles=1, max_plate_nesting=1)
    svi = SVI(machine.model, machine.guide, Adam({"lr": 1e-3}), loss)
    batches = itertools.chain.from_iterable(torch.randperm(len(x)).split(BATCH)[:-1] for _ in itertools.count())
    for line in sys.stdin:
        rounds = int(line)
        start, total = time.perf_counter(), 0.0
        for rows in itertools.islice(batches, rounds):
            wake, _ = svi.step(x[rows])
            total += float(wake) / BATCH
        print(time.perf_counter() - start, total / rounds, flush=True)


main()

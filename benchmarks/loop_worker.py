"""Rounds of generalised teacher forcing for loops.py: by the house, or in an eager loop as one would write it.

    python loop_worker.py ours|eager LATENT HIDDEN STEPS BATCH MEMBERS

The number of rounds comes in on a line of standard input; their seconds, the mean loss and the peak memory in MiB go out.
"""

import itertools
import resource
import statistics
import sys
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from reverie.core.recipe import TrainingConfig
from reverie.data.config import DataConfig
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.models.recurrent import Recurrent, RecurrentConfig
from reverie.training import State, fabric_for, training

ALPHA, RATE = 0.15, 1e-3


def series(channels: int) -> np.ndarray:
    """(T, channels) turning slowly: what is in it does not matter for speed."""
    t = np.arange(20_000)[:, None] * np.linspace(0.01, 0.2, channels)
    return np.sin(t) + 0.1 * np.random.default_rng(0).standard_normal(t.shape)


def ours(latent: int, hidden: int, steps: int, batch: int, members: int) -> Iterator[float]:
    data = from_trials("sines", [Trial(series(latent).astype(np.float32))], {}, DataConfig(window=steps))
    torch.manual_seed(0)
    model = Recurrent(RecurrentConfig(hidden=hidden, members=members, alpha=ALPHA, smooth=0), data.space)
    config = TrainingConfig(steps=10**9, batch=batch, rate=RATE, warmup=0, final=1, beta2=0.999, average=0, clip=0)
    for report in training(State(model, config), data, 0, fabric_for("cpu")):
        yield report.losses["all"]


class ShallowPLRNN(nn.Module):
    def __init__(self, latent: int, hidden: int):
        super().__init__()
        self.A = nn.Parameter(0.9 * torch.ones(latent))
        self.W1 = nn.Parameter(torch.randn(latent, hidden) * 0.03)
        self.W2 = nn.Parameter(torch.randn(hidden, latent) * 0.03)
        self.h1, self.h2 = nn.Parameter(torch.zeros(latent)), nn.Parameter(torch.zeros(hidden))
        self.log_scale = nn.Parameter(torch.zeros(latent))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T - 1, N) what is expected of x (B, T, N) after its first step."""
        A, W1, W2, h1, h2 = self.A, self.W1.T, self.W2.T, self.h1, self.h2
        z, states = x[:, 0], []
        for t in range(x.shape[1] - 1):
            z = ALPHA * x[:, t] + (1 - ALPHA) * z
            z = A * z + torch.relu(z @ W2 + h2) @ W1 + h1
            states.append(z)
        return torch.stack(states, 1)


def eager(latent: int, hidden: int, steps: int, batch: int) -> Iterator[float]:
    x = torch.from_numpy(series(latent)).float()
    torch.manual_seed(0)
    net = ShallowPLRNN(latent, hidden)
    optimiser = torch.optim.Adam(net.parameters(), RATE, fused=True)
    while True:
        starts = torch.randint(len(x) - steps, (batch,))
        seen = torch.stack([x[s : s + steps] for s in starts.tolist()])
        wrong = (seen[:, 1:] - net(seen)) * torch.exp(-net.log_scale)
        loss = (0.5 * wrong.square() + net.log_scale).sum((1, 2)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()


def main() -> None:
    what, *sizes = sys.argv[1:]
    latent, hidden, steps, batch, members = map(int, sizes)
    losses = ours(latent, hidden, steps, batch, members) if what == "ours" else eager(latent, hidden, steps, batch)
    for line in sys.stdin:
        start = time.perf_counter()
        found = list(itertools.islice(losses, int(line)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(time.perf_counter() - start, statistics.fmean(found), peak, flush=True)


main()

"""pythae 0.1.2 in its own environment, for speed.py: trains the same net, some rounds at a time.

    python pythae_worker.py ROWS.npy trainer|step

A number of rounds comes in on a line of standard input; the seconds they took and their mean loss go out.
"""

import itertools
import os
import sys
import tempfile
import time

import numpy as np
import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn

BATCH, WIDTH, LATENT = 128, 500, 50


class Encoder(BaseEncoder):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(784, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(),
            nn.Linear(WIDTH, 2 * LATENT),
        )  # fmt: skip

    def forward(self, x):
        mean, log_variance = self.net(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(LATENT, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 784), nn.Sigmoid()
        )

    def forward(self, z):
        return ModelOutput(reconstruction=self.net(z).view(-1, 1, 28, 28))


class Orders(TrainingCallback):
    """Stops the training after every order until the next one comes. The clock stands still in between."""

    def __init__(self, answer):
        self.answer, self.left, self.done = answer, 0, 0

    def on_train_step_begin(self, training_config, **kwargs):  # pythae calls this once an epoch
        if not self.done:
            self.wait()

    def on_train_step_end(self, training_config, **kwargs):
        self.left -= 1
        if not self.left:
            self.reply(time.perf_counter() - self.start, float("nan"))
            self.wait()

    def wait(self):
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self.left = self.done = int(line)
        self.start = time.perf_counter()

    def reply(self, seconds, loss):
        print(seconds, loss, file=self.answer, flush=True)


def main() -> None:
    rows, what = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever pythae prints is no answer
    x = torch.from_numpy(np.load(rows))
    data = BaseDataset(x, torch.zeros(len(x)))
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce"), Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=BATCH, num_epochs=10**6, learning_rate=1e-3, no_cuda=True
        )
        orders = Orders(answer)
        trainer = BaseTrainer(model, data, training_config=config, callbacks=[orders])
        if what == "trainer":
            trainer.train()
        else:
            step_alone(trainer, orders)


def step_alone(trainer: BaseTrainer, orders: Orders) -> None:
    """The trainer's round as it stands in `train_step`, on batches that lie ready."""
    trainer.prepare_training()
    trainer.model.train()
    x = trainer.train_dataset.data
    batches = itertools.cycle([DatasetOutput(data=part) for part in x[: 50 * BATCH].split(BATCH)])
    while True:
        orders.wait()
        total = 0.0
        for _ in range(orders.left):
            inputs = trainer._set_inputs_to_device(next(batches))
            output = trainer.model(inputs, epoch=1, dataset_size=len(x), uses_ddp=False)
            trainer._optimizers_step(output)
            total += output.loss.item()
        orders.reply(time.perf_counter() - orders.start, total / orders.left)


main()

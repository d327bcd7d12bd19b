"""pythae 0.1.2 in its own environment, for speed.py and likelihoods.py.

    python pythae_worker.py ROWS.npy trainer|step
    python pythae_worker.py ROWS.npy fit FAMILY WIDTH LATENT BATCH EPOCHS SEED OUT.npz

The first trains some rounds at a time: their number comes in on a line of standard input; the seconds they took and
their mean loss go out. The second trains VAE, IWAE or VAMP for some epochs and leaves weights, seconds and what it
makes of the first rows.
"""

import itertools
import os
import sys
import tempfile
import time

import numpy as np
import torch
from pythae.data.datasets import BaseDataset, DatasetOutput
from pythae.models import IWAE, VAE, VAMP, IWAEConfig, VAEConfig, VAMPConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import nn

BATCH, WIDTH, LATENT = 128, 500, 50


DRAWS, COMPONENTS = 10, 100


class Encoder(BaseEncoder):
    def __init__(self, width=WIDTH, latent=LATENT):
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 2 * latent),
        )  # fmt: skip

    def forward(self, x):
        mean, log_variance = self.net(x).chunk(2, -1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    def __init__(self, width=WIDTH, latent=LATENT):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 784), nn.Sigmoid()
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


class Clock(TrainingCallback):
    """From the first epoch to the end of the last."""

    start = end = 0.0

    def on_epoch_begin(self, training_config, **kwargs):
        self.start = self.start or time.perf_counter()

    def on_epoch_end(self, training_config, **kwargs):
        self.end = time.perf_counter()


def main() -> None:
    path, what, *more = sys.argv[1:]
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever pythae prints is no answer
    x = torch.from_numpy(np.load(path))
    if what == "fit":
        fit(x, more[0], *map(int, more[1:-1]), more[-1])
        return
    model = VAE(VAEConfig(input_dim=(1, 28, 28), latent_dim=LATENT, reconstruction_loss="bce"), Encoder(), Decoder())
    with tempfile.TemporaryDirectory() as folder:
        orders = Orders(answer)
        trainer = trainer_of(model, x, folder, orders, BATCH, 10**6, 8)
        if what == "trainer":
            trainer.train()
        else:
            step_alone(trainer, orders)


def trainer_of(model, x, folder, callback, batch, epochs, seed) -> BaseTrainer:
    config = BaseTrainerConfig(
        output_dir=folder, per_device_train_batch_size=batch, num_epochs=epochs, learning_rate=1e-3, no_cuda=True,
        seed=seed,
    )  # fmt: skip
    return BaseTrainer(model, BaseDataset(x, torch.zeros(len(x))), training_config=config, callbacks=[callback])


def fit(x, family, width, latent, batch, epochs, seed, out) -> None:
    torch.manual_seed(seed)
    usual = {"input_dim": (1, 28, 28), "latent_dim": latent, "reconstruction_loss": "bce"}
    nets = Encoder(width, latent), Decoder(width, latent)
    if family == "VAMP":
        model = VAMP(VAMPConfig(**usual, number_components=COMPONENTS), *nets)
    elif family == "IWAE":
        model = IWAE(IWAEConfig(**usual, number_samples=DRAWS), *nets)
    else:
        model = VAE(VAEConfig(**usual), *nets)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer_of(model, x, folder, clock, batch, epochs, seed).train()
    model.eval()
    arrays = {k: v.numpy() for k, v in model.state_dict().items()}
    with torch.no_grad():
        if family == "VAMP":
            arrays["pseudo"] = model.pseudo_inputs(model.idle_input).numpy()
        seen = model.decoder(model.encoder(x[:10].float()).embedding).reconstruction
    np.savez(out, seconds=clock.end - clock.start, seen=seen.numpy(), **arrays)


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

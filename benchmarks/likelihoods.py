"""Likelihood and speed beside pythae 0.1.2: the same nets for the same epochs, judged by the same estimator.

    python benchmarks/likelihoods.py [--seeds 3] [--epochs 60] [--threads N] [--quick]

VAE, IWAE (10 draws) and VampPrior (100 pseudo-inputs), 784-300-300-40, on 4,000 digits of mnist5k, binarised once;
batch 100, Adam at 1e-3 throughout. They train by turns; ours in both precisions that its nets compute in (pythae's computes in bfloat16 on GPUs alone), with
the weight of its KL term rising over 1,000 rounds and with averaged weights, both chosen on the validation digits (seed 100). What pythae has learned is then put into our model, entry by entry
(the pictures it makes of the same digits show that nothing was lost on the way), and both are measured by IWAE-1000
on the 500 test digits.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import numpy as np
import torch
from learn import learned
from table import HERE, WORK, middle_of, say, write
from torch import Tensor

from reverie.core.recipe import TrainingConfig
from reverie.data import Data, open_data
from reverie.models.vae import VAE, VAEConfig
from reverie.nets.priors import VampPrior

Precision = Literal["float32", "bfloat16"]
WIDTH, LATENT, BATCH, DRAWS, COMPONENTS = 300, 40, 100, 10, 100
NET = {"net": "mlp", "width": WIDTH, "depth": 2, "latent": LATENT, "warmup": 1000}
FAMILIES = {
    "VAE": VAEConfig(**NET, prior="normal"),
    "IWAE": VAEConfig(**NET, prior="normal", objective="iwae", draws=DRAWS),
    "VAMP": VAEConfig(**NET, prior="vamp", components=COMPONENTS),
}
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def ours(data: Data, family: str, epochs: int, seed: int, precision: Precision) -> tuple[VAE, float]:
    """The trained model and its seconds."""
    steps = epochs * len(data.train) // BATCH
    recipe = TrainingConfig(
        steps=steps, batch=BATCH, rate=1e-3, warmup=0.0, final=1.0, beta2=0.999, average=0.1, mirror=False, precision=precision
    )  # fmt: skip
    return learned(lambda: VAE(FAMILIES[family], data.space), data, recipe, seed)


def pythae(data: Data, family: str, epochs: int, seed: int) -> tuple[VAE, float]:
    """The same, of pythae; its weights in our model."""
    rows, out = WORK / "digits.npy", WORK / f"pythae-{family}.npz"
    np.save(rows, data.train.raw().numpy())
    numbers = [str(n) for n in (WIDTH, LATENT, BATCH, epochs, seed)]
    log = WORK / "pythae-fit.txt"
    with log.open("w") as file:
        done = subprocess.run(
            [HERE / ".venv" / "bin" / "python", HERE / "pythae_worker.py", rows, "fit", family, *numbers, out],
            stdout=file, stderr=file, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}, check=False,
        )  # fmt: skip
    if done.returncode:
        sys.exit(f"the pythae worker ended early; see {log.relative_to(HERE)}")
    with np.load(out, allow_pickle=False) as arrays:
        found = {k: torch.from_numpy(arrays[k]) for k in arrays.files}
    return adapted(FAMILIES[family], data, found), float(found["seconds"])


@torch.no_grad()
def adapted(config: VAEConfig, data: Data, found: dict[str, Tensor]) -> VAE:
    """Our model with pythae's weights; it says log variance where we say log standard deviation."""
    model = VAE(config, data.space).eval()
    for ours, theirs in ((model.encoder, "encoder"), (model.decoder, "decoder")):
        for name, parameter in ours.named_parameters():
            parameter.copy_(found[f"{theirs}.net.{name}"])
    last = list(model.encoder.parameters())[-2:]
    for parameter in last:
        parameter[LATENT:] /= 2
    if isinstance(model.prior, VampPrior):
        model.prior.raw.copy_(torch.logit(found["pseudo"]).view_as(model.prior.raw))
    seen = model.decode(model.encode(data.train.raw(slice(0, 10)).float()).mean).mean
    if not torch.allclose(seen, found["seen"], atol=1e-4):
        sys.exit("pythae's weights make other pictures in our model: the adapter is wrong")
    return model


def products(family: str, precision: Precision) -> float:
    """Images/s if a round were nothing but its products of matrices, one after the other as they come in a round: with what libraries multiply no
    program passes it."""
    config, kind = FAMILIES[family], getattr(torch, precision)
    encoder, decoder = (
        [(784, WIDTH), (WIDTH, WIDTH), (WIDTH, 2 * LATENT)],
        [(LATENT, WIDTH), (WIDTH, WIDTH), (WIDTH, 784)],
    )
    # rows, layers, and whether what goes into the first needs a gradient
    passes = [(BATCH, encoder, False), (BATCH * config.draws, decoder, True)]
    if config.prior == "vamp":
        passes.append((config.components, encoder, True))
    needed = [
        pair
        for rows, layers, wanted in passes
        for i, (a, b) in enumerate(layers)
        for pair in [((rows, a), (a, b)), ((b, rows), (rows, a)), *([((rows, b), (b, a))] if wanted or i else [])]
    ]
    pairs = [(torch.randn(one, dtype=kind), torch.randn(other, dtype=kind)) for one, other in needed]
    spent = []
    for _ in range(200):
        start = time.perf_counter()
        for one, other in pairs:
            torch.mm(one, other)
        spent.append(time.perf_counter() - start)
    return BATCH / statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as many as torch takes by itself")
    parser.add_argument("--quick", action="store_true", help="few epochs, one seed, for development")
    asked = parser.parse_args()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    if not Path(HERE / ".venv" / "bin" / "python").exists():
        sys.exit("pythae has no environment yet: make -C benchmarks .venv/.made")
    epochs, seeds, draws = (3, 1, 50) if asked.quick else (asked.epochs, asked.seeds, 1000)
    data = open_data("mnist5k", binarise="static")
    WORK.mkdir(exist_ok=True)
    x = data.test.x()
    rows = []
    for family in FAMILIES:
        # images/s and nats (n,) of each seed
        found: dict[str, list[tuple[float, Tensor]]] = {way: [] for way in (*PRECISIONS, "pythae")}
        for seed in range(seeds):
            for way in found if seed % 2 == 0 else reversed(found):
                model, seconds = (
                    pythae(data, family, epochs, seed) if way == "pythae" else ours(data, family, epochs, seed, way)
                )
                found[way].append((epochs * len(data.train) / seconds, model.surprise(x, draws=draws).value))
                say(
                    f"{family}, {way}, seed {seed}: {found[way][-1][0]:.0f} images/s, {found[way][-1][1].mean():.2f} nats"
                )
        for way in PRECISIONS:
            pairs = list(zip(found[way], found["pythae"], strict=True))
            better, alone = [b - a for (_, a), (_, b) in pairs], products(family, way)
            rows.append([
                f"{family}, {way}", *(f"{statistics.median(fast for fast, _ in found[who]):,.0f}" for who in (way, "pythae")),
                middle_of([fast / slow for (fast, _), (slow, _) in pairs]),
                f"{alone / statistics.median(slow for slow, _ in found['pythae']):.2f}",
                *(f"{statistics.median(nats.mean().item() for _, nats in found[who]):.2f}" for who in (way, "pythae")),
                f"{middle_of([b.mean().item() for b in better])} ± {better[-1].std().item() / len(x) ** 0.5:.2f}",
            ])  # fmt: skip
    header = [
        "",
        "images/s, reverie",
        "pythae",
        "ratio (goal 2)",
        "of its products alone",
        "test, nats, reverie",
        "pythae",
        "fewer nats (goal 0)",
    ]
    notes = [
        f"mnist5k, 4,000 training digits, {len(x)} test digits, binarised once; 784-{WIDTH}-{WIDTH}-{LATENT}, batch {BATCH}, "
        f"{epochs} epochs, {DRAWS} draws of IWAE, {COMPONENTS} pseudo-inputs; {torch.get_num_threads()} threads.",
        f"Medians over {seeds} seeds, ranges in brackets; ± is the error over test digits, paired, of the last seed. IWAE-{draws}.",
        "pythae: `BaseTrainer` with its defaults, but for the rate, Adam at 1e-3; timed from its first epoch to the end of its last. "
        "Of its products alone: the ratio that reverie would have if a round took no longer than its products of matrices. "
        "reverie: the same rate throughout, a warm-up of the KL term over 1,000 rounds, averaged weights; timed from the first round to the last.",
    ]
    write("likelihoods", "Likelihood and speed beside pythae", header, rows, notes)


if __name__ == "__main__":
    main()

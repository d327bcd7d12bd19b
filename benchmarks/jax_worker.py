"""The same rounds as loop_worker.py by JAX's scan, compiled, in the benchmarks' own environment.

python jax_worker.py LATENT HIDDEN STEPS BATCH MEMBERS
"""

import functools
import os
import resource
import sys
import time

if hasattr(os, "sched_setaffinity"):  # JAX has no other way to be told how many threads it may have
    os.sched_setaffinity(0, range(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))))

import jax
import jax.numpy as jnp
import numpy as np

ALPHA, RATE = 0.15, 1e-3


def loss_of(p, x):
    """x (T, B, N)."""

    def step(z, seen):
        z = ALPHA * seen + (1 - ALPHA) * z
        z = p["A"] * z + jax.nn.relu(z @ p["W2"] + p["h2"]) @ p["W1"] + p["h1"]
        return z, z

    _, states = jax.lax.scan(step, x[0], x[:-1])
    wrong = (x[1:] - states) * jnp.exp(-p["log_scale"])
    return (0.5 * wrong**2 + p["log_scale"]).sum((0, 2)).mean()


@functools.partial(jax.jit, donate_argnums=(0, 1, 2))
def update(p, mean, square, count, x):
    value, g = jax.vmap(jax.value_and_grad(loss_of))(p, x)
    mean = jax.tree.map(lambda m, d: 0.9 * m + 0.1 * d, mean, g)
    square = jax.tree.map(lambda s, d: 0.999 * s + 0.001 * d * d, square, g)

    def moved(a, m, s):
        return a - RATE * (m / (1 - 0.9**count)) / (jnp.sqrt(s / (1 - 0.999**count)) + 1e-8)

    return jax.tree.map(moved, p, mean, square), mean, square, value.mean()


def main() -> None:
    latent, hidden, steps, batch, members = map(int, sys.argv[1:])
    t = np.arange(20_000)[:, None] * np.linspace(0.01, 0.2, latent)
    rng = np.random.default_rng(0)
    data = (np.sin(t) + 0.1 * rng.standard_normal(t.shape)).astype(np.float32)
    p = {
        "A": np.full((members, latent), 0.9),
        "W1": 0.03 * rng.standard_normal((members, hidden, latent)),
        "W2": 0.03 * rng.standard_normal((members, latent, hidden)),
        "h1": np.zeros((members, latent)),
        "h2": np.zeros((members, hidden)),
        "log_scale": np.zeros((members, latent)),
    }
    p = {name: jnp.asarray(value, jnp.float32) for name, value in p.items()}
    mean, square = jax.tree.map(jnp.zeros_like, p), jax.tree.map(jnp.zeros_like, p)
    count = 0
    for line in sys.stdin:
        rounds, total, start = int(line), 0.0, time.perf_counter()
        for _ in range(rounds):
            count += 1
            starts = rng.integers(len(data) - steps, size=(members, batch))
            x = data[starts[:, None, :] + np.arange(steps)[None, :, None]]  # (S, T, B, N)
            p, mean, square, value = update(p, mean, square, float(count), x)
            total += float(value)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(time.perf_counter() - start, total / rounds, peak, flush=True)


main()

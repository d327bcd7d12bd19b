"""What numba's loops (compiled.py) want and give, from and to the tensors of the sweeps of recurrence.py. Imported only where numba
is installed.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.shallow import Shallow
from reverie.nets import compiled, kernels

if TYPE_CHECKING:
    from reverie.nets.recurrence import Forcing

WORTH = 10_000_000  # T S B M L, from which it pays to wake a second thread


def _shared(loops: Any, members: int, work: int, *arguments: Any) -> None:
    """Runs compiled loops, the members shared between as many threads as torch has, where the work is worth it."""
    threads = min(torch.get_num_threads(), members) if work > WORTH else 1
    cuts = [members * i // threads for i in range(threads + 1)]
    if threads == 1:
        loops(0, members, *arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda begin, end: loops(begin, end, *arguments), cuts[:-1], cuts[1:]))


def _forcing_arrays(forcing: "Forcing | None", like: Tensor, steps: int) -> list[Any]:
    """Target and weight (T, S, B, N) without copies, readout and gain, as arrays; empty where there are none."""
    none4, none3 = like.new_empty(0, 1, 1, 1), like.new_empty(0, 1, 1)
    if forcing is None:
        return [part.numpy() for part in (none4, none4, none3, none3)]
    shape = (steps, *like.shape[:2], forcing.target.shape[-1])
    # Loops run along the channels, which had better lie together.
    weight = forcing.weight[:steps].expand(*forcing.weight[:steps].shape[:3], shape[3]).contiguous()
    pair = (none3, none3) if forcing.readout is None or forcing.gain is None else (forcing.readout, forcing.gain)
    parts = (forcing.target[:steps].expand(shape), weight.expand(shape), *pair)
    return [part.detach().to(like.dtype).numpy() for part in parts]


def _packed(weights: Tensor, at_once: int) -> Tensor:
    """Rows (S, R, K) as (S, blocks, K, at_once), filled up with zeros: as products read them."""
    whole = F.pad(weights, (0, 0, 0, -weights.shape[1] % at_once))
    return whole.unflatten(1, (-1, at_once)).transpose(2, 3).contiguous()


def _packs(weights: Shallow) -> tuple[int, int, Tensor]:
    """How many rows of hidden units and of the state products make at once, and W1 (S, M, …) with zeros for the units that fill up the
    last block."""
    size, units = weights.W1.shape[1:]
    many, few = kernels.at_once(units), kernels.at_once(size)
    return many, few, F.pad(weights.W1, (0, -units % many))


def forward(
    weights: Shallow, start: Tensor, steps: int, forcing: "Forcing | None", drive: Tensor | None
) -> tuple[Tensor, Tensor]:
    states = start.new_empty(steps, *start.shape)
    forced = start.new_ones(steps, *start.shape[:2], start.shape[-1] + 1)
    many, few, W1 = _packs(weights)
    inner = _packed(torch.cat([weights.W2, weights.h2.unsqueeze(2)], 2), many)
    outer = _packed(torch.cat([W1, weights.A, weights.h1.unsqueeze(2)], 2), few)
    acting = start.new_empty(0, 1, 1, 1) if drive is None else drive
    pull = _forcing_arrays(forcing, start, steps)
    weighing = inner.numpy(), outer.numpy()
    begin, push = (part.detach().contiguous().numpy() for part in (start, acting))
    work = steps * weights.W1.numel() * start.shape[1]
    _shared(compiled.forward, len(start), work, *weighing, begin, *pull, push, states.numpy(), forced.numpy())
    return states, forced


def adjoint(
    weights: Shallow, forced: Tensor, gradient: Tensor, forcing: "Forcing | None"
) -> tuple[Shallow, Tensor, Tensor]:
    members, size, units = weights.W1.shape
    total = gradient.detach().clone(memory_format=torch.contiguous_format)
    carried = torch.empty_like(total[0])
    _, weight, readout, gain = _forcing_arrays(forcing, total[0], len(total))
    many, few, W1 = _packs(weights)
    filled = W1.shape[2]
    W2 = F.pad(weights.W2, (0, 0, 0, filled - units))
    inner = _packed(torch.cat([weights.W2, weights.h2.unsqueeze(2)], 2), many)
    across, back = _packed(weights.W1.mT, many), _packed(torch.cat([W2.mT, weights.A.mT], 2), few)
    low, high = kernels.TILE  # tiles may reach beyond the last row and column
    dinner = total.new_zeros(members, filled + high, size + 1 + low)
    douter = total.new_zeros(members, filled + size + 1 + high, size + low)
    parts = (part.numpy() for part in (inner, across, back, forced))
    work = len(total) * weights.W1.numel() * total.shape[2]
    held = (part.numpy() for part in (total, carried, dinner, douter))
    _shared(compiled.adjoint, members, work, *parts, weight, readout, gain, forcing is not None, *held)
    after = filled + size
    A, h1, W1 = douter[:, filled:after, :size].mT, douter[:, after, :size], douter[:, :units, :size].mT
    return Shallow(A, W1, dinner[:, :units, :size], h1, dinner[:, :units, size]), carried, total

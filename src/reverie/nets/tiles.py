"""What numba's loops (compiled.py) want and give, from and to the tensors of the sweeps of recurrence.py. Imported only where numba
is installed.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.shallow import Shallow
from reverie.nets import compiled
from reverie.nets.compiled import WIDTH, layout

if TYPE_CHECKING:
    from reverie.nets.recurrence import Forcing

WORTH = 10_000_000  # T S B M L, from which it pays to wake a second thread


def fits(size: int) -> bool:
    """Whether the linear part of a map of `size` units of state lies in one block, as it has to."""
    return size + 1 <= WIDTH


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


def _panel(*parts: Tensor) -> Tensor:
    """Parts (S, M, …) side by side, as (S, blocks, rows * WIDTH): rows in fours, columns in blocks of WIDTH, zeros where there
    is nothing."""
    whole = torch.cat(parts, 2)
    _, rows, columns = whole.shape
    whole = F.pad(whole, (0, -columns % WIDTH, 0, -rows % 4))
    return whole.unflatten(2, (-1, WIDTH)).transpose(1, 2).flatten(2).contiguous()


def _unpanel(panel: Tensor, rows: int) -> Tensor:
    """(S, rows, columns) of a panel."""
    return panel.unflatten(2, (-1, WIDTH)).transpose(1, 2).flatten(2)[:, :rows]


def _panels(weights: Shallow) -> tuple[Tensor, Tensor, Tensor, int]:
    """[W2' | A'], [h2 | 0] and [W1 | A | h1] as compiled loops want them, and the first of the linear columns."""
    members, size, units = weights.W1.shape
    blocks, linear = layout(size, units)
    gap = weights.W1.new_zeros(members, size, linear - units)
    inner = _panel(weights.W2.mT, gap, weights.A.mT, weights.h1.new_zeros(members, size, 1))
    outer = _panel(weights.W1, gap, weights.A, weights.h1.unsqueeze(2))
    bias = F.pad(weights.h2, (0, blocks * WIDTH - units)).unflatten(1, (blocks, -1)).contiguous()
    return inner, bias, outer, linear


def forward(
    weights: Shallow, start: Tensor, steps: int, forcing: "Forcing | None", drive: Tensor | None
) -> tuple[Tensor, Tensor]:
    states = start.new_empty(steps, *start.shape)
    forced = start.new_ones(steps, *start.shape[:2], start.shape[-1] + 1)
    *fixed, linear = _panels(weights)
    acting = start.new_empty(0, 1, 1, 1) if drive is None else drive
    parts = [part.numpy() for part in fixed]
    pull = _forcing_arrays(forcing, start, steps)
    begin, push = (part.detach().contiguous().numpy() for part in (start, acting))
    _shared(
        compiled.forward,
        len(start),
        steps * weights.W1.numel() * start.shape[1],
        *parts,
        linear,
        begin,
        *pull,
        push,
        states.numpy(),
        forced.numpy(),
    )
    return states, forced


def adjoint(
    weights: Shallow, forced: Tensor, gradient: Tensor, forcing: "Forcing | None"
) -> tuple[Shallow, Tensor, Tensor]:
    total = gradient.detach().clone(memory_format=torch.contiguous_format)
    carried = torch.empty_like(total[0])
    _, weight, readout, gain = _forcing_arrays(forcing, total[0], len(total))
    *fixed, linear = _panels(weights)
    found = [torch.zeros_like(part) for part in fixed]
    parts, sums = ([part.numpy() for part in some] for some in (fixed, found))
    seen = forced.numpy(), weight, readout, gain, forcing is not None
    _shared(
        compiled.adjoint,
        total.shape[1],
        len(total) * weights.W1.numel() * total.shape[2],
        *parts,
        linear,
        *seen,
        total.numpy(),
        carried.numpy(),
        *sums,
    )
    size, units = weights.W1.shape[1:]
    inner, outer = (_unpanel(part, size) for part in found[::2])
    A, h1 = outer[..., linear : linear + size], outer[..., linear + size]
    gradients = Shallow(A, outer[..., :units], inner[..., :units].mT, h1, found[1].flatten(1)[:, :units])
    return gradients, carried, total

"""Squares of pixels that are one place: a picture at a fraction of its size, with as many more channels."""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def places(height: int, width: int, fold: int) -> tuple[int, int]:
    """Rows and columns of squares, `fold` pixels along each side, that cover a picture.

    >>> places(9, 12, 2)
    (5, 6)
    """
    return -(-height // fold), -(-width // fold)


def folded(x: Float[Tensor, "B C H W"], fold: int) -> Float[Tensor, "B D h w"]:
    """D = C fold² channels; beyond the edge of the picture is 0.

    >>> import torch
    >>> folded(torch.zeros(1, 3, 9, 12), 2).shape
    torch.Size([1, 12, 5, 6])
    """
    if fold == 1:
        return x
    return F.pixel_unshuffle(F.pad(x, (0, -x.shape[3] % fold, 0, -x.shape[2] % fold)), fold)


def unfolded(h: Float[Tensor, "B D h w"], fold: int, size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """The picture of that `size` (H, W) again.

    >>> import torch
    >>> x = torch.randn(1, 3, 9, 12)
    >>> torch.equal(unfolded(folded(x, 2), 2, (9, 12)), x)
    True
    """
    return F.pixel_shuffle(h, fold)[..., : size[0], : size[1]] if fold > 1 else h

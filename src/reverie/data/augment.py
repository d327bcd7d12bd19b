"""What the loader does to training pictures, so that a few hundred of them say more."""

import torch
import torch.nn.functional as F
from torch import Tensor

from reverie.core.lattice import snap
from reverie.core.recipe import TrainingConfig
from reverie.core.space import Kind

INTERPOLATION = "bicubic"  # a linear one takes half of the grain away, and a machine that learned from such pictures is surprised by real ones


def augment(x: Tensor, config: TrainingConfig, kind: Kind = "byte") -> Tensor:
    """Pictures (B, C, H, W) moved, turned, bent and lit at random, as `config` says; itself where it says nothing.

    One resampling for all that is geometric; bytes stay on their lattice. Bits are only mirrored.
    """
    if kind != "byte":
        return _flipped(x) if config.mirror else x
    if config.zoom or config.shift or config.turn or config.warp:
        x = F.grid_sample(x, _grid(x, config), INTERPOLATION, "reflection", align_corners=False)
    elif config.mirror:
        x = _flipped(x)
    else:
        return snap(_lit(x, config.light)) if config.light else x
    return snap(_lit(x, config.light) if config.light else x)


WILD = TrainingConfig(zoom=0.15, shift=0.1, turn=0.1, warp=0.05, light=0.25)
CUT = 0.5  # of the height and the width is what is taken out of a picture


def altered(x: Tensor, share: float, config: TrainingConfig = WILD, cut: float = CUT) -> Tensor:
    """That share of the pictures (B, C, H, W) moved, turned and bent as `config` says, independently that share lit, and of that share an
    oblong, `cut` of their height and width, taken out (Zhao, Liu, Lin, Zhu & Han 2020, arXiv 2006.10738); the rest as they are. Gradients pass, and no picture is snapped.

    Both of two sets may be shown to a critic so: as long as some pictures stay as they are, dreams that are altered are as
    the altered real ones only where dreams are as the real ones (Karras et al. 2020, arXiv 2006.06676).
    """
    if not share:
        return x
    moved = F.grid_sample(x, _grid(x, config), padding_mode="reflection", align_corners=False)
    x = torch.where(_chosen(x, share), moved, x)
    x = torch.where(_chosen(x, share), _lit(x, config.light), x)
    return torch.where(_chosen(x, share) & _window(x, cut), 0.0, x)


def _window(x: Tensor, cut: float) -> Tensor:
    """(B, 1, H, W) whether a pixel is in an oblong of `cut` times the height and width, whose centre is anywhere in the picture."""
    b, _, height, width = x.shape
    down = torch.arange(0.5, height, device=x.device).view(1, 1, -1, 1)
    across = torch.arange(0.5, width, device=x.device).view(1, 1, 1, -1)
    y, z = (side * torch.rand(b, 1, 1, 1, device=x.device) for side in (height, width))
    return ((down - y).abs() < cut * height / 2) & ((across - z).abs() < cut * width / 2)


def _chosen(x: Tensor, share: float) -> Tensor:
    return torch.rand(len(x), 1, 1, 1, device=x.device) < share


def _flipped(x: Tensor) -> Tensor:
    return torch.where(_chosen(x, 0.5), x, x.flip(-1))


def _grid(x: Tensor, config: TrainingConfig) -> Tensor:
    """(B, H, W, 2) where each new pixel looks, in half pictures from the centre."""
    b, _, height, width = x.shape

    def normal(*shape: int) -> Tensor:
        return torch.randn(b, *shape, device=x.device).clamp(-2.5, 2.5)

    size = torch.exp(config.zoom * normal())
    angle = config.turn * normal()
    side = torch.where(torch.rand(b, device=x.device) < 0.5, -1.0, 1.0) if config.mirror else torch.ones_like(size)
    aspect = width / height  # a rotation in pixels is a shear in half pictures where the sides differ
    cos, sin = size * torch.cos(angle), size * torch.sin(angle)
    row_x = torch.stack([side * cos, -side * sin / aspect, config.shift * normal()], -1)
    row_y = torch.stack([sin * aspect, cos, config.shift * normal()], -1)
    grid = F.affine_grid(torch.stack([row_x, row_y], 1), [b, 1, height, width], align_corners=False)
    if config.warp:
        bend = F.interpolate(config.warp * normal(2, 4, 4), (height, width), mode="bicubic", align_corners=True)
        grid = grid + bend.permute(0, 2, 3, 1)
    return grid


def _lit(x: Tensor, light: float) -> Tensor:
    """Contrast about the mean, brightness, and a gradient of light across and down."""
    b, _, height, width = x.shape
    across = torch.linspace(-1, 1, width, device=x.device).view(1, 1, 1, -1)
    down = torch.linspace(-1, 1, height, device=x.device).view(1, 1, -1, 1)
    contrast, brightness, right, below = light * torch.randn(4, b, 1, 1, 1, device=x.device)
    mean = x.mean((1, 2, 3), keepdim=True)
    shade = 0.8 * (right * across + below * down)
    return (x - mean) * torch.exp(contrast) + mean + 0.7 * brightness + shade

"""How data are opened."""

from dataclasses import dataclass
from typing import Literal

from reverie.core.config import knob


@dataclass(frozen=True)
class DataConfig:
    """Options of `open_data`; one that a source has no use for is refused."""

    size: tuple[int, int] | None = knob(
        None, "pictures: height and width; none: about 2,000 pixels in their own aspect"
    )
    fit: Literal["crop", "pad"] = knob("crop", "pictures: cut what does not fit the aspect, or add a margin")
    colour: Literal["auto", "grey", "rgb"] = knob("auto", "pictures: auto takes colour where any picture has it")
    binarise: Literal["no", "static", "dynamic"] = knob("no", "bytes to bits by coins thrown once, or at every look")
    count: int | None = knob(None, "examples to make, where the data are made", low=3)
    kinds: str = knob("", "tables: what a column is where it is not what it seems, as age=real,sex=category")
    drop: str = knob("", "tables: columns to leave out, as name,id")
    label: str = knob("", "tables: the column that says what each row is; it becomes the labels")
    seed: int = knob(0, "of what is made or thrown", low=0)

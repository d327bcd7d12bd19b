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
    kinds: str = knob(
        "",
        "tables: what a column is where it is not what it seems, as age=real,sex=category,mood=low<middle<high (of "
        "series also real or count, for all channels; channels of arrays are called 1, 2 …)",
    )
    drop: str = knob("", "tables: columns to leave out, as name,id")
    label: str = knob(
        "", "tables: the column that says what each row is; it becomes the labels (of series: whose each is)"
    )
    window: int | None = knob(
        None, "series: steps of time that are learned from together; a file is read as series where it is given", low=2
    )
    split: Literal["auto", "time", "trial"] = knob(
        "auto", "series: hold out the end of every trial, or whole trials; auto: trials where there are 10 or more"
    )
    test: str = knob("", "series: a file of the same kind that is the test set; nothing else is then held out for it")
    trial: str = knob("", "series in tables: the column that says which trial a row belongs to")
    inputs: str = knob("", "series in tables: columns that are not learned but act from outside, as light,tone")
    parcels: str = knob("", "scans (.nii, .nii.gz): a NIfTI of whole numbers that says which voxels are one region")
    bin: float = knob(0.0, "spikes (.nwb): seconds in which they are counted together", low=0.0)
    tr: float = knob(
        0.0,
        "series: seconds between two steps, which BOLD observations need; 0: what the file says (a scan does)",
        low=0.0,
    )
    seed: int = knob(0, "of what is made or thrown", low=0)

"""The pictures of the README: dreams of drawn faces and of clothes. About five minutes on two cores."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import reverie
from reverie.core.abilities import dream
from reverie.plots.pictures import grid, png

HERE = Path(__file__).parent.parent
panels = []
for name, options, minutes in (("avatars", {"count": 4000, "size": (48, 48)}, 2), ("fashion", {}, 2)):
    data = reverie.open_data(name, **options)
    folder = HERE / "runs" / f"readme-{name}"
    run = reverie.load(folder) if folder.exists() else reverie.fit(data, "vae", out=folder, minutes=minutes)
    torch.manual_seed(0)
    x = data.codec.to_world(dream(run.model, 24)).numpy()
    x = np.repeat(x, 3, 1) if x.shape[1] == 1 else x
    size = 2 if x.shape[-1] >= 48 else 3
    panels.append(grid(x, 6, 4, size).convert("RGBA").resize((6 * 96, 4 * 96), Image.Resampling.LANCZOS))
sheet = Image.new("RGB", (panels[0].width * 2 + 24, panels[0].height), "white")
for i, panel in enumerate(panels):
    sheet.paste(panel, (i * (panel.width + 24), 0), panel)
target = HERE / "docs" / "pictures" / "dreams.png"
target.parent.mkdir(parents=True, exist_ok=True)
target.write_bytes(png(sheet))
print(target)

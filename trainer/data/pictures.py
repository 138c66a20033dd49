"""What a person looks at before training: a contact sheet and the lesion volumes."""

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from trainer.data.store import Case, Store
from trainer.drawing import outline

OUTLINE = (255, 90, 60)
CAPTION_PX = 30
GAP_PX = 6


def contact_sheet(store: Store, path: Path) -> None:
    """Draw every case's slice with most lesion, the mask outlined, as a PNG.

    Two pictures a case where there are several modalities: the first (the reference) and the
    last. As radiologists look at it: anterior is up, the patient's right is on the left.
    """
    shown = dict.fromkeys((store.modalities[0], store.modalities[-1]))
    tile = 160 if len(store.cases) <= 60 else 112
    width = len(shown) * tile + GAP_PX
    height = tile + CAPTION_PX + GAP_PX
    # About 3:2, whatever the number of cases.
    columns = max(1, round(math.sqrt(1.5 * len(store.cases) * height / width)))
    columns = min(max(columns, math.ceil(480 / width)), max(len(store.cases), 1))
    top = 44
    sheet = Picture.new(
        "RGB",
        (max(columns * width + GAP_PX, 480), top + math.ceil(len(store.cases) / columns) * height),
        (18, 18, 18),
    )
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(14), ImageFont.load_default(11)
    draw.text((GAP_PX, 5), f"{len(store.cases)} cases, {' | '.join(shown)}", "white", large)
    orientation = "slice with most lesion; anterior up, patient's right on the left"
    draw.text((GAP_PX, 24), orientation, (170, 170, 170), small)
    for number, case in enumerate(store.cases):
        x = GAP_PX + number % columns * width
        y = top + number // columns * height
        row = largest_lesion_row(store, case)
        border = outline(store.masks([row])[0], tile, width=1)
        for offset, name in enumerate(shown):
            image = store.images([row], [name])[0, 0].astype(np.float32)
            picture = _grey(image, store.windows[name], tile)
            picture[border] = OUTLINE
            sheet.paste(Picture.fromarray(picture), (x + offset * tile, y))
        volume = f"{case.lesion_ml:.1f} mL" if case.lesion_ml else "no lesion"
        part = "test" if case.fold is None else f"fold {case.fold}"
        limit = (width - GAP_PX) // 7
        name = case.case_id if len(case.case_id) <= limit else f"…{case.case_id[1 - limit :]}"
        draw.text((x, y + tile + 1), name, "white", small)
        draw.text((x, y + tile + 14), f"{volume}, {part}", (170, 170, 170), small)
    sheet.save(path)


def lesion_histogram(store: Store, path: Path) -> None:
    """Draw the lesion volumes on a logarithmic axis, by part of the split, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    volumes = {
        "training folds": [case.lesion_ml for case in store.cases if case.split == "train"],
        "test": [case.lesion_ml for case in store.cases if case.split == "test"],
    }
    present = [volume for part in volumes.values() for volume in part if volume > 0]
    empty = len(store.cases) - len(present)
    low, high = min(present), max(present)
    bins = np.geomspace(low * 0.95, high * 1.05, max(4, min(30, round(2 * len(present) ** 0.5))))
    figure = Figure(figsize=(6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.hist(
        [[volume for volume in part if volume > 0] for part in volumes.values()],
        bins=bins.tolist(), stacked=True, label=list(volumes), color=["#4878a8", "#c8c8c8"],
    )  # fmt: skip
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}" if high < 5 * low else "")
    axes.set_xlabel("lesion volume (mL)")
    axes.set_ylabel("cases")
    axes.set_title(
        f"{len(store.cases)} cases, median {np.median(present):.3g} mL"
        + (f", {empty} without lesion" if empty else ""),
        fontsize=10,
    )
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


def largest_lesion_row(store: Store, case: Case) -> int:
    """Return the row with most lesion, or the middle one where there is none."""
    pixels = store.masks(case.rows).sum(axis=(1, 2), dtype=np.int64)
    return case.first + (int(pixels.argmax()) if pixels.any() else case.num_slices // 2)


def _grey(image: NDArray[np.float16], window: tuple[float, float], tile: int) -> NDArray[np.uint8]:
    low, high = window
    grey = np.clip((image - low) / (high - low), 0, 1) * 255
    picture = Picture.fromarray(grey.astype(np.uint8)).resize(
        (tile, tile), Picture.Resampling.BILINEAR
    )
    return np.array(picture.convert("RGB"))

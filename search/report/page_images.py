"""The pictures of the page of search/report/page_html.py: of the best trials, as many as fit."""

import base64
import io
import logging
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from search.storage.trial_images import fetch_pictures

logger = logging.getLogger(__name__)

QUALITY = 75
"""Of WebP, which halves what a PNG of smooth panels takes; outlines and words stay sharp."""


def embed(studies: Sequence[dict[str, Any]], folders: Sequence[Path], room: int) -> None:
    """Put pictures into `details`, and into each study how many of its trials have some there.

    First all of each study's best trial, control and references, then what the next best trials
    predict, then their paths from noise to mask, until a trial's do not fit.

    Args:
        studies: From `page_data.gather`; changed.
        folders: Of the studies.
        room: Bytes.
    """
    for folder in folders:
        try:
            fetch_pictures(folder)
        except OSError as error:
            logger.warning("%s: the newest pictures are not here: %s", folder, error)
    for study in studies:
        painted = sum(bool(row["pictures"]) for row in [*study["trials"], *study["references"]])
        study["pictured"] = {"embedded": 0, "painted": painted}
    for turn in zip_longest(*map(_in_order, studies)):
        for study, folder, found in zip(studies, folders, turn, strict=True):
            if found is None:
                continue
            trial, names = found
            pictures = [picture for name in names if (picture := _picture(folder / name))]
            room -= sum(len(picture["data"]) + len(picture["name"]) + 100 for picture in pictures)
            if room < 0:
                return
            shown = study["details"][trial].setdefault("pictures", [])
            study["pictured"]["embedded"] += not shown and bool(pictures)
            shown += pictures


def _in_order(study: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Yield trials with some of their pictures, the most wanted first."""
    first = [*study["trials"][:1], *study["references"]]
    rest = [row for row in study["trials"][1:] if row["pictures"]]
    yield from ((row["trial"], row["pictures"]) for row in first if row["pictures"])
    for paths in (False, True):
        for row in rest:
            yield row["trial"], [name for name in row["pictures"] if _is_path(name) == paths]


def _is_path(name: str) -> bool:
    return PurePosixPath(name).stem.endswith("-path")


def _picture(path: Path) -> dict[str, str] | None:
    """Return a picture's data URI; None where it is not at hand, or not a picture."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            width, height = image.size
            if _is_path(path.name):  # noise, which is smaller as a PNG with few colours
                kind, content = "png", path.read_bytes()
            else:
                coded = io.BytesIO()
                image.convert("RGB").save(coded, "WEBP", quality=QUALITY, method=2)
                kind, content = "webp", coded.getvalue()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        logger.warning("%s: not on the page: %s", path, error)
        return None
    data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"name": path.name, "data": data, "width": str(width), "height": str(height)}

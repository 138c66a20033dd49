"""The pictures of the page of search/report.py: of the best trials, as many as fit."""

import base64
import io
import logging
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

QUALITY = 82
"""Of WebP: outlines stay sharp at a fifth of a PNG's size. The PNG files stay with the study."""


def embed(studies: Sequence[dict[str, Any]], folders: Sequence[Path], room: int) -> None:
    """Put pictures into `details`, and into each study how many of its trials have theirs there.

    First those of each study's best trial, control and references, then those of the next best, all
    of a trial or none, until one's do not fit.

    Args:
        studies: From `page_data.gather`; changed.
        folders: Of the studies.
        room: Bytes.
    """
    for study in studies:
        study["pictured"] = {"embedded": 0, "painted": len(list(_in_order(study)))}
    orders = [_in_order(study) for study in studies]
    for turn in zip_longest(*orders):
        for study, folder, row in zip(studies, folders, turn, strict=True):
            if row is None:
                continue
            pictures = [_picture(folder / name) for name in row["pictures"]]
            found = [picture for picture in pictures if picture]
            room -= sum(len(picture["data"]) + len(picture["name"]) + 100 for picture in found)
            if room < 0:
                return
            study["details"][row["trial"]]["pictures"] = found
            study["pictured"]["embedded"] += bool(found)


def _in_order(study: dict[str, Any]) -> Iterator[dict[str, Any]]:
    best, *rest = study["trials"] or [{}]
    for row in [best, *study["references"], *rest]:
        if row.get("pictures"):
            yield row


def _picture(path: Path) -> dict[str, str] | None:
    """Return a picture as a data URI of WebP; None where it is not at hand, or not a picture."""
    from PIL import Image

    coded = io.BytesIO()
    try:
        with Image.open(path) as image:
            size = image.size
            image.convert("RGB").save(coded, "WEBP", quality=QUALITY, method=2)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        logger.warning("%s: %s", path, error)
        return None
    data = base64.b64encode(coded.getvalue()).decode()
    return {
        "name": path.name,
        "data": f"data:image/webp;base64,{data}",
        "width": str(size[0]),
        "height": str(size[1]),
    }

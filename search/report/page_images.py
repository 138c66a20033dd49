"""The pictures of the page of search/report/page_html.py: of the best trials, as many as fit."""

import base64
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from search.storage.archives.opened import is_archived
from search.storage.trials.images import fetch_pictures
from trainer.files.regular_files import open_regular

logger = logging.getLogger(__name__)

QUALITY = 75
"""Of WebP, which halves what a PNG of smooth panels takes; outlines and words stay sharp."""
KEPT = 256
"""Pictures that are kept as they were coded: a page of MAX_BYTES has fewer."""


def embed(
    studies: Sequence[Mapping[str, Any]], folders: Sequence[Path], room: int
) -> list[dict[str, Any]]:
    """Return each study's pictures, `by_trial`, and how many trials `painted` some.

    First all of each study's best trial, control and references, then what the next best trials
    predict, then their paths from noise to mask, until a trial's do not fit.

    Args:
        studies: From `page_data.gather`.
        folders: Of the studies.
        room: Bytes.
    """
    for folder in folders:
        try:
            fetch_pictures(folder)
        except OSError as error:
            logger.warning("%s: the newest pictures are not here: %s", folder, error)
    pictured: list[dict[str, Any]] = []
    for study in studies:
        painted = sum(bool(row["pictures"]) for row in [*study["trials"], *study["references"]])
        pictured.append({"painted": painted, "by_trial": {}})
    missing: dict[tuple[Path, str], list[Path]] = {}
    wanted = (
        (of_study, folder, *found)
        for turn in zip_longest(*map(_in_order, studies))
        for of_study, folder, found in zip(pictured, folders, turn, strict=True)
        if found
    )
    for of_study, folder, trial, names in wanted:
        paths = [folder / name for name in names if _is_of_a_trial(folder, name)]
        if is_archived(folder):  # which has none of most trials, or of any
            paths = [path for path in paths if path.exists()]
        pictures = []
        for path in paths:
            try:
                pictures.append(_picture(path))
            except ValueError as error:
                missing.setdefault((folder, str(error)), []).append(path)
        room -= sum(len(picture["data"]) + len(picture["name"]) + 100 for picture in pictures)
        if room < 0:
            break
        if pictures:
            of_study["by_trial"].setdefault(trial, []).extend(pictures)
    for (_, reason), paths in missing.items():
        more = f" and {len(paths) - 1} more" if paths[1:] else ""
        logger.warning("%s%s: not on the page: %s", paths[0], more, reason)
    return pictured


def _in_order(study: Mapping[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Yield trials with some of their pictures, the most wanted first."""
    first = [*study["trials"][:1], *study["references"]]
    rest = [row for row in study["trials"][1:] if row["pictures"]]
    yield from ((row["trial"], row["pictures"]) for row in first if row["pictures"])
    for paths in (False, True):
        for row in rest:
            yield row["trial"], [name for name in row["pictures"] if _is_path(name) == paths]


def _is_of_a_trial(folder: Path, name: str) -> bool:
    """Return whether a picture lies where trials' do: somebody else's ledger may name any file."""
    return (folder / name).resolve().is_relative_to((folder / "trials").resolve())


def _is_path(name: str) -> bool:
    return PurePosixPath(name).stem.endswith("-path")


def _picture(path: Path) -> dict[str, str]:
    """Return a picture's data URI.

    Raises:
        ValueError: Why there is none: it is not at hand, or not a picture.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        about = path.stat()
        return _coded(path, about.st_mtime_ns, about.st_size)
    except UnidentifiedImageError as error:
        raise ValueError("not a picture") from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(str(getattr(error, "strerror", None) or error)) from error


@lru_cache(maxsize=KEPT)
def _coded(path: Path, *_stamp: int) -> dict[str, str]:
    """Return a picture's data URI, of a page that is made again without coding it again."""
    from PIL import Image

    with open_regular(path) as file, Image.open(file, formats=["PNG"]) as image:
        width, height = image.size
        if _is_path(path.name):  # noise, which is smaller as a PNG with few colours
            file.seek(0)
            kind, content = "png", file.read()
        else:
            coded = io.BytesIO()
            image.convert("RGB").save(coded, "WEBP", quality=QUALITY, method=2)
            kind, content = "webp", coded.getvalue()
    data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return {"name": path.name, "data": data, "width": str(width), "height": str(height)}

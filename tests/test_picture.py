"""The README's picture is what its script draws, and can be read in light and in dark."""

from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import ImageFont

from docs.picture import (
    BOX_WIDTH,
    BOXES,
    DARK,
    LIGHT,
    MARGIN,
    PADDING,
    PICTURE,
    TEXT_PX,
    WIDTH,
    YAML,
    picture,
)

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
SVG = "{http://www.w3.org/2000/svg}"


def test_the_picture_is_what_the_script_draws() -> None:
    assert PICTURE.read_text() == picture(), "draw it anew: python -m docs.picture"


def test_it_names_all_that_a_study_goes_through() -> None:
    root = ElementTree.fromstring(PICTURE.read_text())
    titles = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "title"]
    assert titles == [words.split("|")[0] for words in BOXES.values()]
    assert len(titles) == 7 and root.find(f"{SVG}title") is not None


def test_its_lines_fit_their_boxes_in_the_widest_of_its_fonts() -> None:
    font = ImageFont.truetype(FONTS / "DejaVuSans.ttf", TEXT_PX)
    for (row, _), words in BOXES.items():
        room = WIDTH - 2 * MARGIN - 86 if row == "ledger" else BOX_WIDTH
        for line in words.split("|")[1:]:
            assert font.getlength(line) <= room - 2 * PADDING, line
    code = ImageFont.truetype(FONTS / "DejaVuSansMono.ttf", 12)
    assert max(map(code.getlength, YAML)) <= BOX_WIDTH - 2 * PADDING


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_its_colours_stand_out(colours: dict[str, str]) -> None:
    """By WCAG 2.1: 4.5 for text, 3 for lines."""
    assert f"{{ fill: {colours['page']} }}" in PICTURE.read_text()
    for name, least in {"title": 4.5, "soft": 4.5, "on": 3, "end": 3, "edge": 3}.items():
        for ground in ("box", "page") if name == "edge" else ("box",):
            assert contrast(colours[name], colours[ground]) >= least, (name, ground)


def contrast(one: str, other: str) -> float:
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    levels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        level / 12.92 if level <= 0.04045 else ((level + 0.055) / 1.055) ** 2.4 for level in levels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue

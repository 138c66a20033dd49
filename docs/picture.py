"""Draws docs/overview.svg, how a study goes: `python -m docs.picture`.

The picture brings its own background, and its colours follow the reader's light or dark mode.
"""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path

PICTURE = Path(__file__).with_name("overview.svg")

# Lengths are in pixels.
MARGIN, BOX_WIDTH, GAP, PADDING = 20, 212, 32, 14
LEFT = [MARGIN + column * (BOX_WIDTH + GAP) for column in range(3)]
WIDTH, HEIGHT = LEFT[2] + BOX_WIDTH + MARGIN, 450
TEXT_PX, LINE_PX = 14, 19
ROWS = {"search": (20, 168), "ledger": (222, 66), "after": (322, 108)}
"""Upper edge and height of each row of boxes."""

BOXES = {
    ("search", LEFT[0]): "Study file|what is searched,|on which data, how long",
    ("search", LEFT[1]): "Sampler|Optuna proposes trials,|learns how each ended",
    ("search", LEFT[2]): "Trials, pruning|Ray Tune trains them,|ASHA stops weak ones",
    (
        "ledger",
        LEFT[0],
    ): "Ledger|every proposal, report and decision, on disk before it is"
    " acted on;|after a crash the same command goes on from here",
    (
        "after",
        LEFT[0],
    ): "Compare|ranked beside a control|and references: table,|page, MLflow, explain",
    ("after", LEFT[1]): "Confirm|the best once more:|other seeds and folds,|then sealed test cases",
    ("after", LEFT[2]): "Export|weights, threshold,|card: a model that|predicts elsewhere",
}
"""Title and lines of text, by row and left edge."""

LIGHT = {
    **{"page": "#ffffff", "box": "#f3f5f8", "edge": "#7d8897", "title": "#1b2230"},
    **{"soft": "#4d5866", "on": "#0a62a8", "end": "#b34700"},
}
DARK = {
    **{"page": "#0d1117", "box": "#1a212b", "edge": "#74808f", "title": "#e8edf3"},
    **{"soft": "#a9b4c0", "on": "#6cb6ff", "end": "#ffa05c"},
}
"""Colours: `on` is what goes on, `end` what ASHA stopped."""

# Sketches, no data.
YAML = ("space:", "  optimizer.lr: 1e-5…5e-4", "  loss.dice: 0.05…2")
PROPOSALS = {
    "end": ((8, 60), (30, 22), (62, 68), (95, 34), (150, 62), (172, 26)),
    "on": ((118, 20), (112, 40), (132, 32), (125, 12), (140, 18)),
}
CURVES: Sequence[tuple[str, Sequence[int]]] = (
    ("on", (58, 36, 24, 17, 13, 10, 9)),
    ("on", (62, 46, 36, 28, 23, 20, 18)),
    ("end", (66, 58, 50, 46)),
    ("end", (69, 65)),
    ("end", (72, 71)),
)
"""How far below the top each validation of a trial lies."""
STEP_PX = 28
"""From one validation to the next."""


def picture() -> str:
    """Return the picture as SVG."""
    centre = [left + BOX_WIDTH // 2 for left in LEFT]
    (top, height), (ledger, ledger_height), (after, after_height) = ROWS.values()
    sketch = top + 86
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" role="img" aria-labelledby="title">',
        '<title id="title">A study file leads to the sampler, whose trials are trained and pruned;'
        " the ledger records everything, and from it come compare, confirm and export.</title>",
        *_style(),
        f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
        *(line for (row, left), words in BOXES.items() for line in _box(row, left, words)),
        *_yaml(LEFT[0] + PADDING, sketch + 22),
        *_proposals(LEFT[1] + PADDING, sketch),
        *_curves(LEFT[2] + PADDING, sketch),
        *(_right(left, top + height // 2) for left in LEFT[1:]),
        *(_right(left, after + after_height // 2) for left in LEFT[1:]),
        _upright(centre[2], top + height, ledger),
        _upright(centre[1], ledger, top + height),
        _upright(centre[0], ledger + ledger_height, after),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _style() -> Iterator[str]:
    """Yield the style sheet: colours of the light mode, and over them those of the dark one."""
    yield "<style>"
    yield "text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif }"
    yield f".title {{ font-size: 18px; font-weight: 600 }} .soft {{ font-size: {TEXT_PX}px }}"
    yield ".code { font-family: ui-monospace, 'DejaVu Sans Mono', monospace; font-size: 12px;"
    yield "  white-space: pre }"
    yield ".line { fill: none; stroke-width: 2 }"
    yield from _colours(LIGHT)
    yield "@media (prefers-color-scheme: dark) {"
    yield from _colours(DARK)
    yield "}"
    yield "</style>"


def _colours(colours: Mapping[str, str]) -> Iterator[str]:
    for name in ("page", "title", "soft"):
        yield f".{name} {{ fill: {colours[name]} }}"
    yield f".box {{ fill: {colours['box']}; stroke: {colours['edge']} }}"
    for name in ("edge", "on", "end"):
        yield f".line.{name} {{ stroke: {colours[name]} }} .dot.{name} {{ fill: {colours[name]} }}"


def _box(row: str, left: int, words: str) -> Iterator[str]:
    top, height = ROWS[row]
    title, *lines = words.split("|")
    width = WIDTH - 2 * MARGIN if row == "ledger" else BOX_WIDTH
    x, first = left + PADDING, top + 48
    if row == "ledger":
        x, first = x + 86, top + 29
    yield f'<rect class="box" x="{left}" y="{top}" width="{width}" height="{height}" rx="8"/>'
    yield f'<text class="title" x="{left + PADDING}" y="{top + 27}">{title}</text>'
    for number, line in enumerate(lines):
        yield f'<text class="soft" x="{x}" y="{first + LINE_PX * number}">{escape(line)}</text>'


def _yaml(left: int, top: int) -> Iterator[str]:
    for number, line in enumerate(YAML):
        yield f'<text class="soft code" x="{left}" y="{top + 18 * number}">{line}</text>'


def _proposals(left: int, top: int) -> Iterator[str]:
    for kind, points in PROPOSALS.items():
        for x, y in points:
            yield f'<circle class="dot {kind}" cx="{left + x}" cy="{top + y}" r="4"/>'


def _curves(left: int, top: int) -> Iterator[str]:
    """Yield a learning curve a trial; those that are stopped end at a rung."""
    for rung in sorted({len(values) - 1 for kind, values in CURVES if kind == "end"}):
        path = f"M{left + STEP_PX * rung} {top}V{top + 76}"
        yield f'<path class="line edge" stroke-dasharray="3 4" d="{path}"/>'
    for kind, values in CURVES:
        points = [(left + STEP_PX * i, top + value) for i, value in enumerate(values)]
        path = "L".join(f"{x} {y}" for x, y in points)
        yield f'<path class="line {kind}" d="M{path}"/>'
        x, y = points[-1]
        yield f'<circle class="dot {kind}" cx="{x}" cy="{y}" r="4"/>'


def _right(left: int, y: int) -> str:
    """Return an arrow from the box before to the box that begins there."""
    line = f'<path class="line edge" d="M{left - GAP + 2} {y}H{left - 10}"/>'
    return f'{line}<path class="dot edge" d="M{left - 2} {y}l-10 -5v10z"/>'


def _upright(x: int, start: int, end: int) -> str:
    """Return an arrow down, or up, from one edge to another."""
    way = 1 if end > start else -1
    line = f'<path class="line edge" d="M{x} {start + 2 * way}V{end - 10 * way}"/>'
    return f'{line}<path class="dot edge" d="M{x} {end - 2 * way}l-5 {-10 * way}h10z"/>'


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")

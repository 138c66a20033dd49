"""Draws the live screen of a study as it was: `python docs/screen.py runs/STUDY 0.5 screen.png`.

The second word is a moment, as the share of the ledger's events that had happened. A PNG needs
Chromium; an SVG nothing.
"""

import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from search.ledger.journal import Ledger
from search.monitor.live_screen import Screen
from search.monitor.snapshot import StudySnapshot

WIDTH, HEIGHT = 88, 26


def main(folder: Path, moment: float, out: Path) -> None:
    """Draw a study's screen at a moment."""
    ledger = Ledger.open(folder / "ledger.jsonl", writer=False)
    del ledger.events[max(1, round(moment * len(ledger.events))) :]
    snapshot = StudySnapshot.of(ledger)
    now = snapshot and snapshot.state.last_time
    if snapshot is None or now is None:
        sys.exit(f"{folder}: had no settings yet at {moment}")
    drivers = [event for event in ledger.events if event["event"] == "driver"]
    driver = f"pid {drivers[-1]['pid']} on {drivers[-1]['host']}"
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=WIDTH, height=HEIGHT, file=nowhere)
        console.print(Text("\n").join(Screen(snapshot, driver).lines(WIDTH, HEIGHT, now)))
    svg = console.export_svg(title=f"segtune status {snapshot.study.study} --watch", theme=MONOKAI)
    # rich would fetch a font over the network.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "DejaVu Sans Mono, monospace")
    if out.suffix == ".svg":
        out.write_text(svg)
    else:
        write_png(svg, out)


def write_png(svg: str, out: Path) -> None:
    """Let Chromium draw an SVG with a viewBox, and photograph it."""
    match = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg)
    assert match
    width, height = (math.ceil(float(side)) for side in match.groups())
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "screen.html"
        page.write_text(f"<meta charset=utf-8><body style='margin:0'>{svg}", encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        flags += [f"--user-data-dir={scratch}/profile", f"--window-size={width},{height}"]
        command = ["chromium", *flags, f"--screenshot={out.resolve()}", str(page)]
        subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3]))

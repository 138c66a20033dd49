"""Whether torch, driver, GPUs and Ray fit together, as rows of `segtune check`."""

import os
import re
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from search.report.check_table import Row
from trainer.configfile import ConfigError
from trainer.gpus import Gpus

QUERY = "name,compute_mode,mig.mode.current"


class Card(NamedTuple):
    """A GPU as nvidia-smi shows it."""

    name: str
    compute_mode: str
    mig: str


class Seen(NamedTuple):
    """What torch and nvidia-smi see."""

    gpus: Gpus
    cards: Sequence[Card] = ()
    smi_error: str = ""
    """What nvidia-smi says where it is there and fails."""
    visible: str | None = None
    """CUDA_VISIBLE_DEVICES."""


def look() -> Seen:
    """Ask torch and nvidia-smi.

    Raises:
        ConfigError: torch cannot be asked.
    """
    from trainer.gpus import look as ask

    try:
        gpus = ask()
    except RuntimeError as error:
        raise ConfigError([str(error)]) from error
    return Seen(gpus, *_cards(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def _cards() -> tuple[list[Card], str]:
    """Return what nvidia-smi shows, and what it says where it fails; neither where it is not."""
    command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except FileNotFoundError:
        return [], ""
    except (OSError, subprocess.SubprocessError) as error:
        return [], str(error)
    if done.returncode:
        return [], " ".join((done.stdout + done.stderr).split())
    return [Card(*line.split(", ")) for line in done.stdout.splitlines() if line.strip()], ""


def build_rows(seen: Seen) -> list[Row]:
    """Say what is seen, and what does not fit together."""
    gpus = seen.gpus
    build = f", built for {gpus.build}" if gpus.build else ""
    rows = [Row("torch", f"{gpus.torch}{build}", "ok")]
    if seen.smi_error:
        remedy = "load the driver's kernel module again, or restart the machine"
        rows.append(Row("driver", f"nvidia-smi: {seen.smi_error}", "wrong", remedy))
    elif gpus.driver:
        rows.append(Row("driver", gpus.driver, "ok"))
    rows.append(_gpus_row(seen))
    if exclusive := [card.name for card in seen.cards if "Exclusive" in card.compute_mode]:
        found = f"{exclusive[0]} takes one process at a time: gpus_per_trial must be 1 or more"
        rows.append(Row("compute mode", found))
    return rows


def _gpus_row(seen: Seen) -> Row:
    gpus, cards = seen.gpus, _counted([card.name for card in seen.cards])
    if gpus.names:
        found = _counted(gpus.names)
        if gpus.reason:
            return Row("GPUs", found, "wrong", gpus.reason)
        mig = any(card.mig == "Enabled" for card in seen.cards)
        if len(gpus.names) < len(seen.cards) and seen.visible is None and not mig:
            return Row("GPUs", f"torch sees {found}, the driver {cards}", "wrong")
        return Row("GPUs", found, "ok")
    if not (gpus.driver or gpus.build or seen.cards):
        return Row("GPUs", "none: trials train on the CPU")
    if seen.visible is not None and not re.match(r"\d|GPU-|MIG-", seen.visible):
        return Row("GPUs", f"CUDA_VISIBLE_DEVICES={seen.visible!r} hides {cards or 'all'}")
    return Row("GPUs", gpus.problem, "wrong")


def _counted(names: Sequence[str]) -> str:
    """Return names with how many there are of each: `2 x NVIDIA H200`."""
    counts = {name: list(names).count(name) for name in names}
    return ", ".join(f"{count} x {name}" for name, count in counts.items())

"""study.yaml in a study's folder: its settings as they are now, for people and for a launch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from search.study.notify.masks import MASK
from trainer.files.atomic import write_atomically


def write_settings(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a study's settings, whole or not at all.

    Raises:
        OSError: The folder cannot be written.
    """
    text = "# Resolved settings of this study; written by `segtune launch`.\n"
    if MASK in str(config.get("notify")):
        text += "# Secrets of notify are not kept: SEGTUNE_NOTIFY_WEBHOOK and the like name them.\n"
    text += yaml.safe_dump(dict(config), sort_keys=False)
    write_atomically(folder / "study.yaml", lambda temporary: temporary.write_text(text))

"""What lies in an archive of a study: a ZIP file with one folder, called as the study is.

    STUDY/README.txt              how to open it
    STUDY/ledger.jsonl            all that happened, curves included
    STUDY/study.yaml              the settings
    STUDY/trials/0007/…           config.yaml, metrics.jsonl, cases.parquet, threshold.json,
                                  test_readings.jsonl; of the best ema.pt (best.pt of version 0.1);
                                  samples/*.png where images were asked for
    STUDY/store/…                 manifest.json and splits_final.json of its data, without images
    STUDY/archive.json            what this is, and bytes and SHA-256 of every other file

Whoever opens one takes these names and no others, and nothing larger than is said here: a file may
come from anybody.
"""

import re
from typing import NamedTuple

from search.storage.run_folders import WEIGHTS_FILES

FORMAT = "segtune-archive-1"
MANIFEST = "archive.json"
README = "README.txt"
STORE_FILES = ("store/manifest.json", "store/splits_final.json")
RUN_FILES = (
    "config.yaml",
    "metrics.jsonl",
    "cases.parquet",
    "threshold.json",
    "test_readings.jsonl",
)
"""Of every trial that has them."""

MAX_RATIO = 200
"""Bytes that one packed byte may become; a ledger's becomes about ten."""
SLACK_BYTES = 1 << 20
"""Of a member, whatever it was packed to: short and monotonous text is packed best."""
MAX_DIRECTORY_BYTES = 128 << 20
"""Of the list of members at a ZIP file's end, which is read at once: about a million."""

MIB, GIB = 1 << 20, 1 << 30


_PLAIN = r"[^/\\\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
"""Of a file's name; a control character could write on a terminal, or turn its direction."""


class _Kind(NamedTuple):
    names: re.Pattern[str]
    max_bytes: int


_TRIAL = r"trials/[0-9]{4,8}/"
_KINDS = (
    _Kind(re.compile(r"README\.txt|study\.yaml"), 16 * MIB),
    _Kind(re.compile(r"archive\.json"), 256 * MIB),
    _Kind(re.compile(r"ledger\.jsonl"), 16 * GIB),
    _Kind(re.compile(r"store/(manifest|splits_final)\.json"), GIB),
    _Kind(re.compile(_TRIAL + r"(config\.yaml|threshold\.json)"), 16 * MIB),
    _Kind(re.compile(_TRIAL + r"(metrics\.jsonl|test_readings\.jsonl|cases\.parquet)"), GIB),
    _Kind(re.compile(_TRIAL + rf"({'|'.join(map(re.escape, WEIGHTS_FILES))})"), 64 * GIB),
    _Kind(re.compile(_TRIAL + rf"samples/{_PLAIN}{{1,250}}\.png"), 64 * MIB),
)  # fmt: skip


def max_bytes(name: str) -> int | None:
    """Return the most bytes that a member may have; None for a name that no archive has.

    Args:
        name: Below the study's folder.
    """
    return next((kind.max_bytes for kind in _KINDS if kind.names.fullmatch(name)), None)


def is_packed(name: str) -> bool:
    """Return whether a member is worth packing: weights, tables and pictures are packed already."""
    return not name.endswith((".pt", ".png", ".parquet"))

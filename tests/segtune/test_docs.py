"""docs/python.md does what it says: its code blocks run, one after the other, on a real study."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python.md"


def test_every_block_runs(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert len(blocks) == PAGE.read_text().count("```") / 2
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["prediction"].mask.any() and (work / "lesion.nii.gz").is_file()
    assert names["study"].folder == work / "runs" / "mine"
    assert "study: space.optimizer.rate: no such trainer setting" in capsys.readouterr().out

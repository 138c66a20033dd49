"""JSON documents and their schema."""

import json
import math
from pathlib import Path

import pytest

from trainer.files.documents import SCHEMA, from_json, to_json


def test_a_document_says_its_schema_first_and_is_read_without_it() -> None:
    text = to_json({"dice": 0.5, "cases": ["a"]})
    assert next(iter(json.loads(text).items())) == ("schema", SCHEMA)
    assert from_json(text) == {"dice": 0.5, "cases": ["a"]}


def test_a_document_of_version_0_1_has_none_and_is_read_as_it_is() -> None:
    assert from_json('{"dice": 0.5}') == {"dice": 0.5}


def test_what_is_no_document_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a JSON object"):
        from_json("[7, 12]")
    with pytest.raises(ValueError, match="nested too deep"):
        from_json("[" * 4096)  # as much as is read of a lease


def test_strict_readers_never_meet_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"dice": math.nan})
    assert "NaN" in to_json({"dice": math.nan}, allow_nan=True)


def test_a_store_says_its_schema(phantom_store: Path) -> None:
    assert json.loads((phantom_store / "manifest.json").read_text())["schema"] == SCHEMA

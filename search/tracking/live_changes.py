"""What of a study's page is new to a browser that has an earlier version: trials that changed."""

import json
from collections.abc import Mapping
from typing import Any

from trainer.files.documents import SCHEMA

RANKS = ("rank", "rank_at_equal")
"""What one trial's report changes of others."""


class Version:
    """What a page showed at one time, as far as it takes to tell what has changed since.

    Args:
        data: As `search.report.page_html.Live` has them, of one study.
    """

    def __init__(self, data: Mapping[str, Any]):
        [study], [pictures] = data["studies"], data["pictures"]
        without = {**study, "trials": [], "details": {}}
        self._rest = {**data, "studies": [without], "pictures": [{**pictures, "by_trial": {}}]}
        self._order = [[row["trial"], *(row[key] for key in RANKS)] for row in study["trials"]]
        self._rows = {
            row["trial"]: _text({key: value for key, value in row.items() if key not in RANKS})
            for row in study["trials"]
        }
        self._details = {trial: _text(detail) for trial, detail in study["details"].items()}
        self._pictures = {trial: _text(each) for trial, each in pictures["by_trial"].items()}

    def since(self, before: "Version") -> str:
        """Return as JSON what a browser that has an earlier version lacks.

        `order` has each trial, as the page lists them, with its ranks; `rows` and `details` the
        trials that changed; `pictures` those that have some, None where these are as before; `rest`
        all else.
        """
        rows, details = _changed(self._rows, before._rows), _changed(self._details, before._details)
        same = {t: "null" for t, text in self._pictures.items() if before._pictures.get(t) == text}
        parts = {"schema": str(SCHEMA), "order": _text(self._order)}
        parts |= {"rows": rows, "details": details, "pictures": _object(self._pictures | same)}
        parts["rest"] = _text(self._rest)
        return _object(parts)


def _changed(now: Mapping[int, str], before: Mapping[int, str]) -> str:
    return _object({key: text for key, text in now.items() if before.get(key) != text})


def _object(texts: Mapping[Any, str]) -> str:
    """Return an object of values that are JSON already."""
    return "{" + ",".join(f'"{key}":{text}' for key, text in texts.items()) + "}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)

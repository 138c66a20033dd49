"""The extra `search`: what a search needs beside the packages that one model needs."""

import importlib.util

NAMES = ("ray", "mlflow", "optuna", "requests", "sklearn", "sqlalchemy")
"""What is imported of it; SQLAlchemy is MLflow's."""


def missing_line(name: str) -> str:
    """Return the line for who needs a package of the extra that is not here."""
    brings = "pip install '.[search]' in segtune's folder brings what a search needs"
    return f"{name} is not installed: {brings}"


def need_search() -> None:
    """Check that a search can run, before anything of it is written.

    Raises:
        ValueError: A package is not installed.
    """
    for name in NAMES:
        if importlib.util.find_spec(name) is None:
            raise ValueError(missing_line(name))

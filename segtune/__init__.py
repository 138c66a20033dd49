"""Studies in Python: `segtune.study("runs/mine")`, `segtune.launch(...)`, `segtune.model(...)`.

docs/python.md shows it all. Importing this imports neither torch nor Ray nor MLflow nor pandas.
"""

import segtune_start  # noqa: F401  our `search` and `trainer` are found before others of these names
from segtune.launching import launch
from segtune.models import Model, model
from segtune.studies import Study, Trial, study

__all__ = ["Model", "Study", "Trial", "launch", "model", "study"]

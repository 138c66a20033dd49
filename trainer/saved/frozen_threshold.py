"""A threshold frozen in a run's folder, before anyone reads the test set."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError
from trainer.files.atomic import write_atomically
from trainer.files.documents import from_json, to_json

FILE = "threshold.json"


@dataclass(frozen=True)
class FrozenThreshold:
    """A run's threshold, chosen on its validation fold, and for what it was chosen."""

    threshold: float
    dice: float
    """Mean of the validation cases with lesion at it: chosen on them, optimistic."""
    num_cases: int
    """Validation cases with lesion."""
    weights: str
    """Fingerprint of the weights that it suits."""
    sampling: dict[str, Any]
    """How they were sampled, `sampling` of the configuration without its threshold."""

    def save(self, run_dir: Path) -> None:
        text = to_json(asdict(self), allow_nan=True) + "\n"
        write_atomically(run_dir / FILE, lambda path: path.write_text(text))

    @classmethod
    def load(cls, run_dir: Path) -> "FrozenThreshold | None":
        """Read a run's frozen threshold; None where there is none.

        Raises:
            ConfigError: The file is damaged.
        """
        path = run_dir / FILE
        try:
            return cls(**from_json(path.read_text()))
        except FileNotFoundError:
            return None
        except (OSError, TypeError, ValueError) as error:
            raise ConfigError([f"{path}: damaged: {error}"]) from error

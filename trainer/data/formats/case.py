"""What every reader returns."""

from dataclasses import dataclass, field

from trainer.data.files import Source

TOGETHER = " + "
"""Between the names of a label that several regions hold."""


@dataclass(frozen=True)
class RawCase:
    """One patient's files. Paths that do not exist are reported when they are read."""

    case_id: str
    images: dict[str, Source]
    """By modality; the first is the reference, on whose grid the mask lies."""
    mask: Source
    clinical: dict[str, str | float | None] = field(default_factory=dict)
    more_masks: tuple[Source, ...] = ()
    """Of further lesions of the same image: they are joined to the first."""
    folders: str = ""
    """What its folders are called, below the data set: they may tell the patient."""


@dataclass(frozen=True)
class FoundCases:
    """A data set in one reader's layout."""

    cases: list[RawCase]
    """Sorted by id."""
    notes: list[str] = field(default_factory=list)
    """What was left out or chosen, one line a kind."""
    label_names: dict[int, str] = field(default_factory=dict)
    """Of the masks' labels, in lower case, where a description names them."""
    ignore_label: int | None = None
    """Of voxels that nobody annotated."""


class Tally:
    """What happened to which case, for notes of one line a kind with a count."""

    def __init__(self) -> None:
        self._kinds: dict[str, list[str]] = {}

    def add(self, kind: str, example: str) -> None:
        """Count one more of a kind."""
        self._kinds.setdefault(kind, []).append(example)

    def lines(self) -> list[str]:
        """Return one line a kind, with the first example."""
        return [
            f"{kind}: {examples[0]}"
            + (f" and {len(examples) - 1} more" if len(examples) > 1 else "")
            for kind, examples in self._kinds.items()
        ]

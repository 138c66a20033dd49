"""A reference: what a search is compared with, a configuration or somebody's masks."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from trainer.config import absolute
from trainer.configfile import Section, flatten, quoted


def dotted(values: Any) -> Any:
    """Return a mapping by dotted keys; what is none comes back as it is, to be refused."""
    return flatten(values) if isinstance(values, Mapping) else values


def plain_name(name: str) -> str:
    """Refuse a name that is not letters, digits and ._- alone."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise ValueError(
            f"{quoted(name)}: must be letters, digits and ._- only, beginning with the former, and "
            "at most 200"
        )
    return name


class Reference(Section):
    name: Annotated[str, AfterValidator(plain_name)]
    """What it is called beside the ranking."""
    settings: Annotated[dict[str, Any], BeforeValidator(dotted)] = Field(default_factory=dict)
    """By dotted trainer path, over the fixed ones; what they leave open has TrainConfig's
    default."""
    masks: Annotated[str, AfterValidator(absolute)] | None = None
    """Instead of settings: a folder of masks or probabilities that another program wrote, a NIfTI
    file a case (docs/references.md). They are scored, and nothing is trained."""
    splits: Annotated[str, AfterValidator(absolute)] | None = None
    """Of masks: what their model was trained on, nnU-Net's splits_final.json or a table; without
    it, nobody knows."""

    @model_validator(mode="after")
    def _settings_or_masks(self) -> Self:
        if self.masks is not None and self.settings:
            raise ValueError("has settings and masks, but must be one of both")
        if self.splits is not None and self.masks is None:
            raise ValueError("has splits without masks, whose model they are about")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what version 0.1 did not have, where it is not given."""
        values: dict[str, Any] = write(self)
        return {
            key: value
            for key, value in values.items()
            if value is not None or key not in ("masks", "splits")
        }


def each_name_once(references: tuple[Reference, ...]) -> tuple[Reference, ...]:
    """Refuse references of one name."""
    names = [reference.name for reference in references]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"name {twice[0]} is given twice")
    return references

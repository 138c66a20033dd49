"""What a trainer of one's own reports: read, checked, and kept in the trial's run folder.

`validations.jsonl` there has a line a validation, and `cases.parquet` a row a case, where the
trainer tells its cases; both as docs/own_trainer.md says.
"""

import inspect
import math
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from search.analysis.case_scores import case_metric
from search.execution.command_trainer import READ, program_lines
from search.study.own_settings import imported, own_settings
from search.study.own_trainer import OwnTrainer
from trainer.configfile import ConfigError, did_you_mean, quoted
from trainer.exceptions import naming_out_of_memory
from trainer.files.atomic import write_atomically
from trainer.files.damaged import cases_before, set_aside, validations_in
from trainer.files.documents import to_json

FILE = "validations.jsonl"


@dataclass(frozen=True)
class Validation:
    """One validation of a trainer of one's own, as `trainer.run_log.Validation`."""

    epoch: int
    metrics: dict[str, float]
    path: str = ""
    cases: Mapping[str, float] | None = None
    """The objective of each case."""


def own_fit(spec: Mapping[str, Any]) -> Callable[[], Generator[Validation, None, None]]:
    """Import what trains a trial of such a study, and return it ready to begin.

    Args:
        spec: A `tuning.searcher.TrialSpec`.

    Raises:
        ImportError: It is not there.
        ConfigError: It does not take the settings.
    """
    trainer = OwnTrainer.model_validate(spec["trainer"])
    if trainer.command:
        return partial(_recorded, partial(program_lines, trainer), spec, trainer.name)
    try:
        settings = own_settings(trainer)
        function = imported(trainer, trainer.python or "", "trainer.python")
    except ConfigError as error:  # of this node, perhaps, and not of the trial's settings
        raise ImportError(error.lines[0]) from error
    settings.check(spec["train"], trainer.name)
    config = settings.build(spec["train"])

    def fit(spec: Mapping[str, Any], *_: Any) -> Generator[Any, None, None]:
        run_dir = Path(spec["run_dir"])
        run_dir.mkdir(parents=True, exist_ok=True)
        reports = naming_out_of_memory(function)(config, run_dir, received=spec["received"])
        if not inspect.isgenerator(reports) and not hasattr(reports, "__next__"):
            raise TypeError(f"{trainer.name}: must yield validations, but returned {reports!r}")
        for report in reports:
            yield [report]
            if (run_dir / "stop").exists():
                return

    return partial(_recorded, fit, spec, trainer.name)


def _recorded(
    fit: Callable[..., Generator[Any, None, None]],
    spec: Mapping[str, Any],
    name: str,
) -> Generator[Validation, None, None]:
    """Yield each epoch's validation once, when it is kept in the run folder.

    Raises:
        RuntimeError: The trainer ended before its last epoch, and was not asked to.
        ValueError: A metric has a value that it cannot have.
        Exception: As the trainer.
    """
    run_dir, goal = Path(spec["run_dir"]), int(spec["train"]["epochs"])
    record = Record(run_dir, spec["objective"])
    yield from [each for each in record.validations if each.epoch > spec["received"]]
    if record.last >= goal:
        return
    spec = {**spec, "received": max(spec["received"], record.last)}
    near, heard = "", False

    def taken(report: Any) -> Validation | None:
        """Keep a validation, unless its epoch is known."""
        nonlocal near, heard
        validation, why = as_validation(report, spec["objective"])
        if validation and validation.epoch > goal:
            why, validation = f"epoch {validation.epoch} is beyond the last, {goal}", None
        if why and why != near:
            print(f"note: {why}", flush=True)
        near = why if validation is None and why else near
        heard = heard or validation is not None
        if validation is None or validation.epoch <= max(record.last, spec["received"]):
            return None
        record.add(validation)
        return validation

    # What comes when nobody listens any more is there for the next attempt.
    is_away = False
    try:
        with closing(fit(spec, lambda: record.last >= goal, taken)) as reports:
            for together in reports:
                for validation in [each for report in together if (each := taken(report))]:
                    if validation.epoch == 0:
                        print(f"note: epoch 0 is before the first; the last is {goal}", flush=True)
                    yield validation
    except OSError:
        is_away = True
        raise
    finally:
        # What could not be recorded is read again; what was refused would be refused for ever.
        if not is_away:
            (run_dir / READ).unlink(missing_ok=True)
    if record.last < goal and not (run_dir / "stop").exists():
        raise RuntimeError(_too_early(name, record, heard, goal, spec["objective"], near))


def _too_early(
    name: str, record: "Record", heard: bool, goal: int, objective: str, near: str
) -> str:
    """Return why a trainer that has ended was not at its end.

    Args:
        name: The trainer's.
        record: What it reported.
        heard: Whether this attempt reported anything.
        goal: The epoch to which it was to train.
        objective: The metric that a validation has.
        near: Why something that looked like a validation was none.
    """
    if not record.validations:
        rule = f'a validation is {{"epoch": 1, "{objective}": …}}'
        return f"{name} ended without a validation: {near or rule}"
    hint = ""
    if record.validations[0].epoch == 0 and record.last == goal - 1:
        hint = ": its first was epoch 0, but epochs count from 1, as those that are done"
    elif not heard:
        hint = ": it reported none now; it has to report the epoch that it continues from"
    elif near:
        hint = f": {near}"
    return f"{name} ended at epoch {record.last} of {goal}{hint}"


def as_validation(report: Any, objective: str) -> tuple[Validation | None, str]:
    """Return a validation as a trainer gives it, or None and why it is none.

    Args:
        report: A mapping with `epoch`, the objective's key and perhaps others and `cases`; or an
            object with `epoch` and `metrics`, as `trainer.run_log.Validation`.
        objective: The metric that must be there.

    Raises:
        ValueError: It or a case of it is out of the metric's range.
    """
    if not isinstance(report, Mapping):
        told = {name: getattr(report, name) for name in ("epoch", "cases") if hasattr(report, name)}
        report = {**getattr(report, "metrics", {}), **told}
    if "epoch" not in report:
        return None, ""
    epoch = _number(report["epoch"])
    if epoch is None or not epoch.is_integer() or epoch < 0:
        return None, f"epoch is {quoted(report['epoch'])}, but must be a whole number"
    epoch = int(epoch)
    if objective not in report:
        return None, f"epoch {epoch} has no {objective}{did_you_mean(objective, report)}"
    metrics = {
        str(key): number
        for key, each in report.items()
        if key != "epoch" and (number := _number(each)) is not None
    }
    value = report[objective]
    if value is None:
        metrics[objective] = math.nan
    if objective not in metrics:
        return None, f"epoch {epoch}: {objective}: {quoted(value)}: must be a number"
    cases, why = _cases(report.get("cases"))
    scale = case_metric(objective).scale
    for what, each in [(objective, metrics[objective]), *(cases or {}).items()]:
        if math.isfinite(each) and not scale.allows(each):
            raise ValueError(
                f"epoch {epoch}: {what} is {each:g}, but {objective} lies in [0, {scale.most:g}]: "
                "give what has another scale another name (objective.metric)"
            )
    return Validation(epoch, metrics, cases=cases), why and f"epoch {epoch}: {why}"


def _cases(given: Any) -> tuple[dict[str, float] | None, str]:
    """Return the cases that have a value (some have none), and what is no case in words."""
    if given is None:
        return None, ""
    if not isinstance(given, Mapping):
        return None, f"cases: {quoted(given)}: must be an object with a number for each case"
    cases, why = dict[str, float](), ""
    for case, value in given.items():
        number = _number(value)
        if number is not None and math.isfinite(number):
            cases[str(case)] = number
        elif number is None and value is not None:
            why = f"cases: {case}: {quoted(value)}: left out: must be a number, or null for none"
    return cases, why


def _number(value: Any) -> float | None:
    """Return a number of Python, numpy or torch as one of Python."""
    if not isinstance(value, Real) and getattr(value, "shape", None) == ():
        value = value.item()
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


class Record:
    """The validations that a run folder keeps, in order of epochs.

    Args:
        run_dir: The folder.
        objective: What the cases have values of.
    """

    def __init__(self, run_dir: Path, objective: str):
        self._path = run_dir / FILE
        self._cases = run_dir / "cases.parquet"
        self._metric = case_metric(objective)
        self.validations: list[Validation] = []
        lines, whole = validations_in(self._path)
        self.validations += [Validation(values.pop("epoch"), values) for values in lines]
        if not whole:
            set_aside(self._path)

    @property
    def last(self) -> int:
        """The last epoch, -1 before the first."""
        return self.validations[-1].epoch if self.validations else -1

    def add(self, validation: Validation) -> None:
        """Keep one; cases first, so that a line never lacks them."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if validation.cases:
            self._add_cases(validation.epoch, validation.cases)
        self.validations.append(validation)
        lines = [
            to_json({"epoch": each.epoch} | each.metrics, indent=None, allow_nan=True) + "\n"
            for each in self.validations
        ]
        write_atomically(self._path, lambda path: path.write_text("".join(lines)))

    def _add_cases(self, epoch: int, cases: Mapping[str, float]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "epoch": [epoch] * len(cases),
                "case_id": [*cases],
                "has_lesion": [self._metric.over != "empty"] * len(cases),
                self._metric.column: [*cases.values()],
            }
        )
        if (earlier := cases_before(self._cases, epoch)) is not None:
            table = pa.concat_tables([earlier, table], promote_options="default")
        write_atomically(self._cases, lambda path: pq.write_table(table, path))

"""`segtune check STUDY`: which files of a study are damaged, and what the others prove of them."""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from search.ledger.journal import Event, Ledger
from search.ledger.lease import Lease
from search.ledger.mending import damage_in, mended
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.report.check_table import Row
from search.storage.archives.opened import archive_file, check_not_archived
from search.storage.modes import modes_of
from search.storage.settings_file import write_settings
from search.storage.studies import shared_place
from trainer.files.atomic import write_atomically
from trainer.files.damaged import cases_in, keep_copy, set_aside, settings_in, validations_in
from trainer.files.documents import to_json
from trainer.files.passing_faults import is_unread
from trainer.files.regular_files import open_regular

SIGNS = ("stop", "owner", "alive")
"""Files of a run folder that are no more than signs."""


UNPROVED = "nothing here proves what it was; bring it back from a copy"


class Damage(NamedTuple):
    """A file that is not as it should be."""

    file: str
    """Relative to the study's folder."""
    found: str
    mend: Callable[[], object] | None = None
    """Puts right what the other files prove; None where they prove nothing."""
    lost: str = UNPROVED
    """What remains, or is to be done, where it cannot be mended."""


def check_study(folder: Path, *, repair: bool = False) -> list[Row]:
    """Look at a study's files, and on request put right what the others prove.

    A damaged file is kept beside the mended one, as NAME.damaged-1.

    Raises:
        BeingRun: It is to be repaired while a driver has it.
        ConfigError: It is to be repaired, and is an archive.
        OSError: A file cannot be read or written.
    """
    if name := archive_file(folder):
        if repair:
            check_not_archived(folder)
        return [Row("archive", f"every file of {name} is as it was archived", "ok")]
    rows: list[Row] = []
    while True:  # what was mended may show more
        found = [*damages(folder)]
        mendable = [damage for damage in found if damage.mend]
        if not (repair and mendable):
            break
        with modes_of(folder), closing(_Held(folder)):
            for damage in mendable:
                assert damage.mend
                damage.mend()
                rows.append(Row(damage.file, f"{damage.found}: mended", "note"))
    for damage in found:
        remedy = "--repair mends it" if damage.mend else damage.lost
        rows.append(Row(damage.file, damage.found, "wrong", remedy))
    if not found:
        rows.append(Row("files", _all_right(folder), "ok"))
    return rows


class _Held:
    """A study that no driver takes up meanwhile."""

    def __init__(self, folder: Path):
        self.close = Lease.take(folder).release


def _all_right(folder: Path) -> str:
    with_trials = "" if shared_place(folder) else " and the trials' files"
    return f"the ledger, study.yaml{with_trials} can be read and go together"


def damages(folder: Path) -> Iterator[Damage]:
    """Yield what is damaged in a study's folder; where the ledger is, nothing else."""
    path = folder / "ledger.jsonl"
    found = damage_in(path.read_bytes())
    whole = mended(path) if found else None
    for line in found:
        mend = None if whole is None else partial(_replace, path, whole)
        lost = "the checksum proves this line, but not all" if line.mended is not None else ""
        yield Damage(path.name, f"line {line.number} {line.what}", mend, lost or UNPROVED)
        if mend:
            break  # all of them at once
    if found:
        return
    ledger = Ledger.open(path, writer=False)
    state = StudyState.of(ledger)
    if state.study is None:
        return
    yield from _of_the_study(folder, state.study["config"])
    if not shared_place(folder):
        reported: dict[int, list[Event]] = {}
        for event in ledger.events:
            if event["event"] == "reported":
                reported.setdefault(event["trial"], []).append(event)
        own = state.study["config"].get("trainer") is not None
        for trial in state.trials.values():
            if trial.attempts:
                yield from _of_trial(folder, trial, reported.get(trial.number, []), own=own)


def _replace(path: Path, content: bytes) -> None:
    keep_copy(path)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _of_the_study(folder: Path, config: dict[str, Any]) -> Iterator[Damage]:
    path = folder / "study.yaml"
    if settings_in(path) is None:

        def rewrite() -> None:
            if path.exists():
                set_aside(path)
            write_settings(folder, config)

        yield Damage(path.name, "cannot be read; the ledger has the settings", rewrite)
    if (stop := folder / "stop").is_dir():
        yield Damage(stop.name, "is a folder", lambda: set_aside(stop))


def _of_trial(
    folder: Path, trial: TrialState, reported: list[Event], *, own: bool
) -> Iterator[Damage]:
    run_dir = folder / "trials" / f"{trial.number:04d}"
    where = f"trials/{run_dir.name}"
    if not run_dir.is_dir():
        if reported:
            lost = "its figures are in the ledger, its weights are lost"
            yield Damage(where, "is not there", None, lost)
        return
    for name in SIGNS:
        if (sign := run_dir / name).is_dir():
            yield Damage(f"{where}/{name}", "is a folder", partial(set_aside, sign))
    yield from _of_validations(
        run_dir, where, reported, "validations.jsonl" if own else "metrics.jsonl"
    )
    yield from _of_cases(run_dir, where)
    if not own and (reported or (run_dir / "config.yaml").exists()):
        gone = trial.deleted is not None and "weights" in trial.deleted.parts
        yield from _of_weights(run_dir, where, [] if gone else reported)


def _of_validations(
    run_dir: Path, where: str, reported: list[Event], name: str
) -> Iterator[Damage]:
    path = run_dir / name
    lines, whole = validations_in(path)
    known = {values["epoch"]: values for values in lines}
    lacking = [event["epoch"] for event in reported if event["epoch"] not in known]
    if whole and not lacking:
        return
    what = "cannot be read to its end" if not whole else f"lacks epochs {_epochs(lacking)}"

    def rewrite() -> None:
        if path.exists():
            set_aside(path)
        for event in reported:
            line = {"epoch": event["epoch"], **event["metrics"]}
            line |= {"path": event["path"]} if event.get("path") else {}
            known.setdefault(event["epoch"], line)
        text = [to_json(known[e], indent=None, allow_nan=True) + "\n" for e in sorted(known)]
        write_atomically(path, lambda temporary: temporary.write_text("".join(text)))

    yield Damage(f"{where}/{name}", f"{what}; the ledger has them", rewrite)


def _of_cases(run_dir: Path, where: str) -> Iterator[Damage]:
    path = run_dir / "cases.parquet"
    if path.exists() and cases_in(path) is None:
        lost = "cannot be read: its cases are lost, and later validations write it anew"
        yield Damage(f"{where}/{path.name}", lost, lambda: set_aside(path))


def _of_weights(run_dir: Path, where: str, reported: list[Event]) -> Iterator[Damage]:
    """Look at config.yaml, the weights that stand for the trial, and its newest checkpoints."""
    checkpoints = sorted(run_dir.glob("checkpoints/*.pt"))
    for path in checkpoints:
        if not _whole(path):
            name = f"{where}/checkpoints/{path.name}"
            found = "is damaged; the one before it is used"
            yield Damage(name, found, partial(set_aside, path))
    path = run_dir / "config.yaml"
    if settings_in(path) is None:
        anew = partial(_config_anew, run_dir) if any(map(_whole, checkpoints)) else None
        yield Damage(f"{where}/{path.name}", "cannot be read; a checkpoint has it", anew)
    weights = run_dir / "ema.pt"
    if reported and not _whole(weights) and not (run_dir / "best.pt").exists():
        mend: Callable[[], object] | None = None
        if checkpoints and _epoch_of(checkpoints[-1]) == reported[-1]["epoch"]:
            last = checkpoints[-1]
            mend = partial(_weights_anew, weights, last, reported[-1])
        found = "is damaged" if weights.exists() else "is not there"
        lost = "the next validation writes it, if the trial goes on; else its weights are lost"
        yield Damage(f"{where}/{weights.name}", found, mend, lost)


def _whole(path: Path) -> bool:
    """Return whether every byte of a file of weights is as it was written.

    Raises:
        OSError: It cannot be read, which proves no damage.
    """
    try:
        with open_regular(path) as content, zipfile.ZipFile(content) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, RuntimeError) as error:
        if is_unread(error):
            raise
        return False


def _epoch_of(checkpoint: Path) -> int | None:
    from trainer.saved.checkpoint import read_if_whole

    state = read_if_whole(checkpoint)
    return state["images"] // state["config"]["epoch_images"] if state else None


def _config_anew(run_dir: Path) -> None:
    from trainer.saved.checkpoint import load_latest

    path, state = run_dir / "config.yaml", load_latest(run_dir / "checkpoints")
    assert state is not None
    if path.exists():
        set_aside(path)
    text = yaml.safe_dump(state["config"], sort_keys=False)
    write_atomically(path, lambda temporary: temporary.write_text(text))


def _weights_anew(weights: Path, checkpoint: Path, reported: Event) -> None:
    """Write what the last validation judged, which its checkpoint has as well."""
    from trainer.saved.checkpoint import read, write

    state = read(checkpoint)
    if weights.exists():
        set_aside(weights)
    judged = {key: state[key] for key in ("config", "inputs", "ema", "trained_on")}
    write(weights, judged | {"epoch": reported["epoch"], "metrics": dict(reported["metrics"])})


def _epochs(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return shown + (f", … ({len(numbers)})" if len(numbers) > 5 else "")

"""`segtune prepare`: from a data set's files to a store.

Cases are read, resampled and cropped in parallel processes, each written as one Arrow file by an
atomic rename. All of it happens in `OUT.unfinished`, which becomes `OUT` in one rename at the end:
OUT is there completely or not at all, and an interrupted call continues with the finished cases.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from trainer.configfile import ConfigError
from trainer.cpus import num_cpus
from trainer.data.case_file import CaseSettings, fingerprint, finished
from trainer.data.content_hash import content_hash
from trainer.data.files import is_picture
from trainer.data.formats import find_cases
from trainer.data.formats.case import FoundCases, RawCase
from trainer.data.making.case_workers import prepared
from trainer.data.making.one_writer import naming_disk, only_writer
from trainer.data.masks.decision import Decision, Wish, decide
from trainer.data.masks.survey import survey
from trainer.data.parts import SplitOptions
from trainer.data.pictures import contact_sheet, lesion_histogram
from trainer.data.splits import NUM_FOLDS
from trainer.data.splits_file import FILE as SPLITS
from trainer.data.splits_file import write_splits
from trainer.data.store import FORMAT, MANIFEST, Store
from trainer.data.summary.lines import scale_lines, summary_lines
from trainer.data.windows import Factors, modality, parse_factors
from trainer.files.atomic import write_atomically
from trainer.files.documents import SCHEMA, from_json
from trainer.files.passing_faults import naming
from trainer.files.regular_files import open_regular
from trainer.progress import bar

IMAGE_SIZE = 64
MAX_IMAGE_SIZE = 4096
CONTACT_SHEET = "contact_sheet.png"
HISTOGRAM = "lesion_volumes.png"
PLAIN_PROGRESS_EVERY_S = 5.0


def prepare(
    dataset: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    image_size: int = IMAGE_SIZE,
    skip_bad: bool = False,
    workers: int | None = None,
    seed: int = 0,
    patients: str | None = None,
    splits: str | Path | None = None,
    like: str | Path | None = None,
    labels: str = "",
    mask_threshold: float | None = None,
    scale: Sequence[str] = (),
    console: Console | None = None,
) -> Store:
    """Turn a data set into a store and say on the console what it holds.

    A second call with the same input and settings does nothing; an interrupted one continues.

    Args:
        dataset: Folder in one of the layouts of `trainer.data.formats`.
        out: Folder to create. It may exist if it is empty or the same store.
        format: Name of the layout, or None to detect it.
        image_size: Rows and columns of a slice.
        skip_bad: Leave unusable cases out, and list them at the end.
        workers: Processes; None takes as many as there are CPUs.
        seed: Who is test, and the folds.
        patients: A regular expression that finds the patient in a case's name; None goes by what
            names usually tell.
        splits: A file that says where cases are (trainer/data/splits_file.py).
        like: An earlier store, whose places are kept; others are drawn.
        labels: Numbers or names of the mask's labels that are lesion, with commas between; empty
            takes all but 0.
        mask_threshold: Lesion from this value of the masks on.
        scale: What a modality's values are brought to its unit with: `tmax=0.001` multiplies,
            `ncct=1,-1024` adds as well.
        console: Where to print; None is standard output.

    Raises:
        ConfigError: One line per unusable file or setting, or another process makes this store;
            OUT is then untouched.
        OSError: A disk is full, or away; finished cases are kept for the next call.
    """
    dataset, out, console = Path(dataset), Path(out), console or Console()
    if out.is_symlink() or out.name in ("", ".."):
        out = out.resolve()
    if not 16 <= image_size <= MAX_IMAGE_SIZE:
        raise ConfigError(
            [f"command line: image-size: {image_size}: must be 16 to {MAX_IMAGE_SIZE}"]
        )
    if seed < 0:
        raise ConfigError([f"command line: seed: {seed}: must be at least 0"])
    if workers is not None and workers < 1:
        raise ConfigError([f"command line: workers: {workers}: must be at least 1"])
    wish = Wish.parse(labels, mask_threshold)
    name, found = find_cases(dataset, format)
    factors = parse_factors(scale, list(found.cases[0].images))
    settings = CaseSettings(image_size=image_size)
    prints = {case.case_id: fingerprint(case, dataset, settings) for case in found.cases}
    options = SplitOptions.read(
        [case.case_id for case in found.cases],
        seed=seed,
        pictures=is_picture(next(iter(found.cases[0].images.values())).path),
        folders={case.case_id: case.folders for case in found.cases if case.folders},
        pattern=patients,
        splits=None if splits is None else Path(splits),
        like=None if like is None else Path(like),
    )
    request = {"image_size": image_size, "seed": seed, "input": _digest([name, prints])}
    request |= wish.request() | ({"scale": sorted(scale)} if scale else {})
    request |= options.request
    if not _is_done(out, request):
        with only_writer(out) as unfinished:
            if not _is_done(out, request):  # another process may have made it meanwhile
                _make(
                    dataset, name, found, out, unfinished, settings, request, options, wish,
                    factors, skip_bad, workers, console,
                )  # fmt: skip
                return _summarize(out, console)
    _say(console, f"{out}: already prepared from this input, nothing to do")
    return _summarize(out, console)


def _make(
    dataset: Path,
    name: str,
    found: FoundCases,
    out: Path,
    unfinished: Path,
    settings: CaseSettings,
    request: dict[str, Any],
    options: SplitOptions,
    wish: Wish,
    factors: Factors,
    skip_bad: bool,
    workers: int | None,
    console: Console,
) -> None:
    """Make a store in a folder beside it, and give that its name."""
    try:
        _clear(unfinished)
        seen = survey(found.cases, workers or num_cpus())
        masks = decide(dataset, seen, found.label_names, found.ignore_label, wish)
        settings = replace(settings, reading=masks.reading, factors=factors)
        records, problems = _prepare_cases(
            dataset, name, found.cases, unfinished, settings, masks, workers, console
        )
        if not records:
            shutil.rmtree(unfinished)
            raise ConfigError(problems)
        if problems and not skip_bad:
            _say(
                console,
                f"{len(records)} good cases wait in {unfinished} for the next call, which may "
                f"leave the {len(problems)} bad ones out with --skip-bad",
            )
            raise ConfigError(problems)
        if not any(record["lesion_ml"] for record in records):
            shutil.rmtree(unfinished)
            raise ConfigError(
                [f"{dataset}: no foreground: the masks of all {len(records)} cases are empty"]
            )
        modalities = list(found.cases[0].images)
        manifest = _finish(
            unfinished, records, modalities, request, name, options, found.notes, problems,
            masks, factors,
        )  # fmt: skip
        store = Store(unfinished, manifest)
        contact_sheet(store, unfinished / CONTACT_SHEET)
        lesion_histogram(store, unfinished / HISTOGRAM)
        # Last, so that nobody takes a part of a store for a store.
        text = json.dumps({"schema": SCHEMA, **manifest}, indent=1, ensure_ascii=False)
        write_atomically(
            unfinished / MANIFEST, lambda path: path.write_text(text, encoding="utf-8")
        )
        os.replace(unfinished, out)
    except BaseException as error:
        needed = _needed(unfinished, len(found.cases))
        _clear(unfinished)
        if isinstance(error, OSError):
            raise naming(naming_disk(error, unfinished, needed=needed), unfinished) from error
        raise


def _clear(unfinished: Path) -> None:
    """Leave of an earlier or interrupted call the finished cases alone, or nothing."""
    cases = unfinished / "cases"
    kept = [*cases.glob("[!.]*.arrow")]
    if not kept:
        shutil.rmtree(unfinished, ignore_errors=True)
        return
    whole = {path.name for path in kept} | {path.with_suffix(".npz").name for path in kept}
    for path in (*unfinished.iterdir(), *cases.iterdir()):
        if path != cases and path.name not in whole and not path.is_dir():
            path.unlink()


def _needed(unfinished: Path, num_cases: int) -> int:
    """Return how many bytes the other cases take, going by those that are finished."""
    cases = [*(unfinished / "cases").glob("[!.]*.arrow")]
    size = sum(path.stat().st_size for path in cases)
    return round(size / len(cases) * (num_cases - len(cases))) if cases else 0


def _prepare_cases(
    dataset: Path,
    format: str,
    cases: list[RawCase],
    unfinished: Path,
    settings: CaseSettings,
    masks: Decision,
    workers: int | None,
    console: Console,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Prepare what an earlier call has not.

    Returns:
        The records of all good cases, in order, and one line for each bad one.
    """
    folder = unfinished / "cases"
    folder.mkdir(parents=True, exist_ok=True)
    prints = {case.case_id: fingerprint(case, dataset, settings) for case in cases}
    results: dict[str, dict[str, Any] | str] = {
        case.case_id: masks.refused[case.case_id] for case in cases if case.case_id in masks.refused
    }
    for case in cases:
        if case.case_id not in results and (
            record := finished(folder, case.case_id, prints[case.case_id])
        ):
            results[case.case_id] = record
    earlier = len(results) - len(masks.refused)
    kept = f", {earlier} of them finished earlier" if earlier else ""
    _say(console, f"{dataset}: {format}, {len(cases)} cases{kept}")
    todo = [case for case in cases if case.case_id not in results]
    with closing(prepared(todo, folder, settings, prints, workers or num_cpus())) as jobs:
        results |= dict(_with_progress(jobs, len(todo), console))
    in_order = [results[case.case_id] for case in cases]
    for result in in_order:
        if isinstance(result, dict):
            result["notes"] += [n.record() for n in masks.case_notes.get(result["case_id"], [])]
    return (
        [result for result in in_order if isinstance(result, dict)],
        [result for result in in_order if isinstance(result, str)],
    )


def _is_done(out: Path, request: dict[str, Any]) -> bool:
    """Tell whether `out` is the store that is asked for; refuse to write over anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    try:
        with open_regular(out / MANIFEST) as file:
            earlier = dict(from_json(file.read())["request"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            [f"{out}: exists and is not a prepared store: choose another folder"]
        ) from error
    if earlier == request:
        return True
    what = [
        _difference(key, earlier.get(key), request.get(key))
        for key in {**earlier, **request}
        if earlier.get(key) != request.get(key)
    ]
    raise ConfigError(
        [f"{out}: was prepared from {' and '.join(what)}: choose another folder or delete it"]
    )


def _difference(key: str, earlier: Any, now: Any) -> str:
    """Return in words what a store was prepared from otherwise."""
    if key == "input":
        return "other or changed files"
    if key in ("splits", "like"):
        return f"{'no' if earlier is None else 'other places of'} --{key}"
    return f"no {key}" if earlier is None else f"{key} {earlier}, not {now}"


def _with_progress(
    jobs: Iterator[tuple[str, dict[str, Any] | str]], total: int, console: Console
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    said = time.monotonic()
    with bar("preparing", total) as advance:
        for number, job in enumerate(jobs, 1):
            advance(1)
            if not console.is_terminal and time.monotonic() - said > PLAIN_PROGRESS_EVERY_S:
                said = time.monotonic()
                _say(console, f"prepared {number} of {total} cases")
            yield job


def _finish(
    unfinished: Path,
    records: list[dict[str, Any]],
    modalities: list[str],
    request: dict[str, Any],
    format: str,
    options: SplitOptions,
    notes: list[str],
    skipped: list[str],
    masks: Decision,
    factors: Factors,
) -> dict[str, Any]:
    """Divide the cases, write the slices' index and the splits, and return the manifest."""
    parts = options.divide(
        {record["case_id"]: record["lesion_ml"] for record in records},
        {record["case_id"]: record.get("images_hash") for record in records},
    )
    first, cases = 0, []
    for record in records:
        place = parts.places[record["case_id"]]
        split = "test" if place == "test" else "train"
        fold = place if isinstance(place, int) else None
        patient = parts.patient_of[record["case_id"]]
        cases.append({**record, "patient": patient, "split": split, "fold": fold, "first": first})
        first += record["num_slices"]
    expected = {f"{case['case_id']}{suffix}" for case in cases for suffix in (".arrow", ".npz")}
    for path in (unfinished / "cases").iterdir():
        if path.name not in expected:
            path.unlink()

    rows = [(case, number) for case in cases for number in range(case["num_slices"])]
    index = pa.record_batch(
        {
            "case_id": pa.array([case["case_id"] for case, _ in rows]),
            "slice": pa.array([case["box"]["first_slice"] + n for case, n in rows], pa.int32()),
            "spacing_mm": pa.array(
                [case["spacing_mm"] for case, _ in rows], pa.list_(pa.float32(), 3)
            ),
            "split": pa.array([case["split"] for case, _ in rows]),
            "fold": pa.array([case["fold"] for case, _ in rows], pa.int8()),
            "lesion_pixels": pa.array([case["lesion_pixels"][n] for case, n in rows], pa.int32()),
        }
    )
    with pa.ipc.new_file(str(unfinished / "slices.arrow"), index.schema) as writer:
        writer.write_batch(index)

    content = {
        "format": FORMAT,
        "image_size": request["image_size"],
        "modalities": modalities,
        "windows": {name: list(modality(name).window) for name in modalities},
        "units": {name: modality(name).unit for name in modalities},
    }
    manifest = {
        **content,
        "content_hash": content_hash(content | {"cases": cases}),
        "layout": format,
        "splits": {
            "drawn_by": parts.drawn_by,
            "test": [case for case, place in parts.places.items() if place == "test"],
            "folds": [
                [case for case, place in parts.places.items() if place == number]
                for number in range(NUM_FOLDS)
            ],
        },
        "elsewhere": parts.elsewhere,
        "cases": cases,
        "said": [*masks.said, *scale_lines(factors), *parts.said],
        "notes": [*notes, *masks.notes, *parts.notes],
        "skipped": skipped,
        "masks": masks.record,
        "scale": {name: list(numbers) for name, numbers in factors.items()},
        "request": request,
    }
    write_splits(unfinished / SPLITS, parts.places)
    return manifest


def _summarize(out: Path, console: Console) -> Store:
    """Say what a store holds, and everything about it that a person should know."""
    store = Store.open(out)
    manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
    lines = summary_lines(store, manifest)
    _say(console, "\n".join([*lines, f"look at {out / CONTACT_SHEET} and {out / HISTOGRAM}"]))
    return store


def _say(console: Console, text: str) -> None:
    """Print as it is: paths may be long and hold brackets."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()

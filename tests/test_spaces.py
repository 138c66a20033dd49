"""What the shipped studies promise: sound files, true headers, and a reference of every key."""

import gzip
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from search.analysis.results import compare, compare_studies
from search.cli.main import main
from search.storage.studies import read_study
from search.study.checks import TABLES
from search.study.config import StudyConfig
from search.study.load import load_study
from search.study.own_checks import METRICS
from search.study.schema_docs import WORDS, header, reference
from search.study.shipped import find_space
from tests.trainer.tiny import tiny_config
from trainer.config import TrainConfig
from trainer.configfile import field_names, flatten
from trainer.loop import fit

ROOT = Path(__file__).resolve().parents[1]
SPACES = ROOT / "spaces"
PATHS = sorted(SPACES.glob("*.yaml"))


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory, phantom_store: Path) -> Path:
    """The folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("finished")
    list(fit(tiny_config(phantom_store, epochs=1, epoch_images=4, model__width=12), folder))
    return folder


@pytest.fixture(scope="session")
def completing(finished_run: Path):
    """Load a shipped study, with what its command has to name."""

    def load(path: Path) -> StudyConfig:
        needs_weights = "train.init_from=" in header(path)["command"]
        return load_study(path, [f"train.init_from={finished_run}"] if needs_weights else [])

    return load


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_the_studies_of_the_issue_are_there() -> None:
    assert {path.stem for path in PATHS} >= {
        *("quickstart", "smoke", "isles24", "optimizer", "batch", "losses"),
        *("diffusion", "respacing", "architectures", "data"),
    }


def test_it_loads_under_its_own_name(path: Path, completing) -> None:
    """Loading builds TrainConfig at the ends of every dimension."""
    study = completing(path)
    assert study.study == path.stem
    assert study.train_config({})
    again = StudyConfig.model_validate(study.model_dump(mode="json"))
    assert again.config_hash() == study.config_hash()


def test_its_dry_run_prints(path: Path, phantom_store: Path, finished_run: Path) -> None:
    words = ["launch", str(path), f"data.store={phantom_store}", "--dry-run"]
    if "train.init_from=" in header(path)["command"]:
        words.append(f"train.init_from={finished_run}")
    result = CliRunner().invoke(main, words)
    assert (result.exit_code, result.stderr) == (0, "")
    for name in load_study(path, words[4:] or []).space:
        assert f"  {name} " in result.stdout


def test_its_header_says_four_things(path: Path) -> None:
    said = header(path)
    assert tuple(said) == WORDS
    assert all(said.values())
    assert said["question"].rstrip(".").count("?") >= 1


def test_the_commands_of_its_header_parse(path: Path) -> None:
    commands = [
        command
        for line in header(path)["command"].splitlines()
        for command in line.split("  (")[0].split(" && ")
    ]
    launched = []
    for command in commands:
        program, *words = shlex.split(command)
        if program == "make":
            makefile = (ROOT / "Makefile").read_text()
            assert f"\n{words[0]}:" in makefile
            launched += [path for line in makefile.splitlines() if path.name in line]
            continue
        assert program == "segtune"
        name, *rest = words
        context = main.commands[name].make_context(name, rest, parent=click.Context(main))
        if name == "launch":
            launched.append(find_space(context.params["space"]))
    assert path in launched


def test_the_control_is_a_plain_unet(path: Path, completing) -> None:
    study = completing(path)
    if study.has_control:
        assert study.train_config(study.control_params).model.family == "unet"
    else:
        assert study.train_config({}).model.width == 12


def test_the_reference_is_up_to_date() -> None:
    command = "python -m search.study.schema_docs > spaces/README.md"
    assert (SPACES / "README.md").read_text() == reference(SPACES), f"run {command}"


def test_the_reference_has_every_key_and_its_meaning() -> None:
    rows = {}
    for line in reference(SPACES).splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if line.startswith("| `") and len(cells) == 4:
            rows.setdefault(cells[0].strip("|` "), []).append([cell.strip("| ") for cell in cells])
    sections = {name.rpartition(".")[0] for name in field_names(TrainConfig)} - TABLES
    for name in field_names(TrainConfig):
        assert name in rows or name in sections, name
    for name in ("space.NAME.when", "stall.patience", "budget.gpu_hours", "trials.num_trials"):
        assert name in rows
    assert rows["scheduler.reduction_factor"][0][1:3] == ["integer ≥ 2", "`3`"]
    assert rows["data.modalities"][0][1:3] == ["list of text, or null", "`null`"]
    assert rows["model.depth"][0][1] == "integer ≥ 2 ≤ 7"
    assert rows["sampler.type"][0][1].startswith("`tpe`, `curve_gp`, ")
    for name, found in rows.items():
        assert all(cells[3] for cells in found), f"{name} has no docstring"
    assert all(f"`{metric}`" in reference(SPACES) for metric in METRICS)


def test_quickstart_compares_like_with_like() -> None:
    study = load_study(SPACES / "quickstart.yaml")
    [start] = study.references
    assert start.settings == {
        "diffusion.target": "eps",
        "diffusion.noise_schedule": "linear",
        "loss.dice": 0.0,
        "loss.bce": 0.0,
        "optimizer.lr": 1e-4,
        "batch.effective": 4,
    }
    where_one_starts = flatten(study.train_config(start.settings).model_dump())
    for take in (0, 1, -1):
        found = {name: dimension.values()[take] for name, dimension in study.space.items()}
        searched = flatten(study.train_config(found).model_dump())
        different = {key for key in searched if searched[key] != where_one_starts[key]}
        assert different <= study.space.keys()
        # The same number of images, whatever the batch.
        for key in ("epochs", "epoch_images"):
            assert searched[key] == where_one_starts[key]


def test_batch_can_be_read_at_equal_images_and_at_equal_steps() -> None:
    study = load_study(SPACES / "batch.yaml")
    assert (study.sampler.type, study.scheduler.type) == ("grid", "none")
    assert study.train_config({}).optimizer.lr_schedule == "constant"
    size = 1
    for dimension in study.space.values():
        size *= len(dimension.values())
    assert study.trials.num_trials == size


RESULTS = sorted((SPACES / "results").glob("*.jsonl.gz"))


def test_the_results_of_the_issue_are_there() -> None:
    assert [path.name.split(".")[0] for path in RESULTS] == [
        *("batch", "batch_hippocampus", "certainty", "diffusion", "diffusion_hippocampus"),
        *("equal_time", "equal_time_unet", "from_six_percent", "hippocampus", "hippocampus_unet"),
        *("losses", "losses_hippocampus", "optimizer", "optimizer_hippocampus", "parts"),
        *("parts_v2", "respacing"),
    ]


WITHOUT_SPACE = {"certainty", "equal_time_unet"} | {
    f"{study}_hippocampus" for study in ("batch", "diffusion", "losses", "optimizer")
}
"""Launched from a space of another name; docs/findings.md says what was found."""


def unpacked(study: str, folder: Path) -> Path:
    """The folder of a study whose ledger ships."""
    (folder / study).mkdir()
    packed = SPACES / "results" / f"{study}.jsonl.gz"
    (folder / study / "ledger.jsonl").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder / study


@pytest.mark.parametrize("study", sorted(WITHOUT_SPACE - {"equal_time_unet"}))
def test_findings_say_what_the_other_ledgers_do(study: str, tmp_path: Path) -> None:
    """A verdict's interval, at least; signs are in the words there."""
    [verdict] = compare(unpacked(study, tmp_path))["verdicts"]
    intervals = [sorted(map(abs, each["interval"])) for each in verdict["comparisons"]]
    said = (ROOT / "docs" / "findings.md").read_text()
    assert any(f"[{low:.3f}, {high:.3f}]" in said for low, high in intervals)


@pytest.mark.parametrize(
    "studies", [("equal_time", "equal_time_unet"), ("diffusion_hippocampus", "hippocampus_unet")]
)
def test_findings_say_what_studies_have_more_than_each_other(studies, tmp_path: Path) -> None:
    [row] = compare_studies(unpacked(study, tmp_path) for study in studies)["between"]
    low, high = row["interval"]
    said = (ROOT / "docs" / "findings.md").read_text()
    ends = (-high, -low) if row["trial"].startswith(studies[1]) else (low, high)
    assert f"[{ends[0]:+.3f}, {ends[1]:+.3f}]" in said, "diffusion minus U-Net"


@pytest.mark.parametrize(
    "study", sorted({path.name.split(".")[0] for path in RESULTS} - WITHOUT_SPACE)
)
@pytest.mark.one_in(4)
def test_headers_say_what_the_ledgers_do(study: str, tmp_path: Path) -> None:
    """Every interval of a header is that of a verdict."""
    result = compare(unpacked(study, tmp_path))
    assert len(result["trials"]) >= 3
    found = header(SPACES / f"{study}.yaml")["found"]
    numbers = re.findall(r"\[(-?\d\.\d+), \+?(-?\d\.\d+)\]", found)
    assert numbers
    intervals = [
        comparison["interval"]
        for verdict in result["verdicts"]
        for comparison in verdict["comparisons"]
        if comparison.get("interval")  # none of a trial that was stopped by hand
    ]
    for low, high in numbers:
        digits = len(low.partition(".")[2])
        rounded = [f"{x:.{digits}f}" for interval in intervals for x in interval]
        assert [low, high] in [rounded[i : i + 2] for i in range(0, len(rounded), 2)], (low, high)


def test_the_batches_at_equal_steps(tmp_path: Path) -> None:
    """Batch 32 after 8 epochs and batch 4 after 1: what the header says by seed."""
    _, state = read_study(unpacked("batch", tmp_path))
    dice = {
        (trial.params["batch.effective"], trial.seed, report.epoch): report.value
        for trial in state.confirming()
        if "batch.effective" in trial.params
        for report in trial.reports
    }
    by_seed = [dice[32, seed, 8] - dice[4, seed, 1] for seed in (1, 2, 3)]
    said = header(SPACES / "batch.yaml")["found"]
    first, second, third = (f"{difference:.3f}" for difference in by_seed)
    assert f"{first}, {second} and {third}" in said

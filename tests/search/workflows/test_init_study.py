"""`segtune init`: a study file that fits a store, a device and a number of hours."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import search.workflows.init_study
from search.cli.main import main
from search.study.load import load_study
from search.workflows.init_study import (
    EPOCH_IMAGES,
    LENGTHS,
    fingerprint,
    init_study,
    plans,
    size_of,
)
from search.workflows.preview.cost_probe import Cost, expected_hours
from trainer.configfile import ConfigError

FAST = Cost("a fast device", image_s=1e-5, validation_s=0.01, slots=2)


@pytest.fixture
def measured(monkeypatch):
    """Say what a training costs, instead of measuring for a minute."""

    def costs(cost: Cost) -> dict[str, Cost]:
        found = {"fixed settings": cost, "control": replace(cost, image_s=cost.image_s / 4)}
        monkeypatch.setattr(
            search.workflows.init_study, "measured_costs", lambda study, address: found
        )
        return found

    return costs


def write(store, out, **given) -> list[str]:
    said: list[str] = []
    init_study(str(store), out, **{"hours": 1.0, "gpus": 0} | given, say=said.append)
    return said


def test_what_is_written_can_be_launched_and_has_its_hours(store, tmp_path, measured):
    """The header's hours are those that `launch --dry-run --probe` computes from the same costs."""
    costs = measured(Cost("a device", image_s=0.02, validation_s=1.0, slots=2))
    out = tmp_path / "mine.yaml"
    said = write(store, out)
    study = load_study(out)
    hours, unpruned = expected_hours(study, costs)
    assert hours < 1.0
    assert f"about {hours:.2g} hours" in said[1]
    assert f"# cost      about {hours:.2g} hours of the 1 that were given, {unpruned:.2g}" in (
        out.read_text(encoding="utf-8")
    )
    assert study.study == "mine" and study.data.store == str(store)
    assert study.budget.wall_hours == 1.0
    assert [reference.name for reference in study.references] == ["baseline"]
    assert study.trials.gpus_per_trial == 0 and study.train["model.width"] == 16


def test_the_hours_decide_how_many_trials_and_how_long(store, tmp_path, measured):
    measured(FAST)
    write(store, tmp_path / "long.yaml", hours=47.0)
    study = load_study(tmp_path / "long.yaml")
    assert (study.scheduler.max_t, study.trials.num_trials) == LENGTHS[0]
    slow = replace(FAST, image_s=0.02, validation_s=1.0)
    measured(slow)
    epochs = []
    for number, hours in enumerate((20.0, 0.7, 0.1)):
        said = write(store, tmp_path / f"{number}.yaml", hours=hours)
        study = load_study(tmp_path / f"{number}.yaml")
        epochs.append((study.scheduler.max_t, study.trials.num_trials))
        assert not any("more than" in line for line in said)
    assert epochs == sorted(epochs, reverse=True) and len(set(epochs)) == 3


def test_too_few_hours_are_said(store, tmp_path, measured):
    measured(replace(FAST, image_s=10.0))
    said = write(store, tmp_path / "mine.yaml")
    study = load_study(tmp_path / "mine.yaml")
    assert (study.scheduler.max_t, study.trials.num_trials) == LENGTHS[-1]
    assert study.train["epoch_images"] == EPOCH_IMAGES[0]
    assert any("hours, more than 1: its budget ends it before" in line for line in said)


def test_a_long_validation_waits_for_the_third_epoch(store, tmp_path, measured):
    measured(replace(FAST, validation_s=10.0))
    write(store, tmp_path / "mine.yaml", hours=200.0)
    assert load_study(tmp_path / "mine.yaml").train["validation.every"] == 3


def test_gpus_get_a_trial_each_and_a_network_of_their_size(store, tmp_path, measured):
    measured(FAST)
    write(store, tmp_path / "mine.yaml", gpus=4)
    study = load_study(tmp_path / "mine.yaml")
    assert study.trials.gpus_per_trial == 1
    found = replace(fingerprint(str(store)), image_size=128)
    assert (size_of(found, 1, 16).width, size_of(found, 1, 16).depth) == (64, 5)
    assert size_of(found, 4, 16).cpus_per_trial == 4
    assert size_of(replace(found, image_size=50), 1, 16).depth == 2
    with pytest.raises(ConfigError, match="cannot be halved"):
        size_of(replace(found, image_size=51), 0, 2)


def test_epochs_are_shortened_last():
    found = [(plan.epoch_images, plan.max_t, plan.num_trials) for plan in plans(1000)]
    assert [plan[1:] for plan in found[: len(LENGTHS)]] == [*LENGTHS]
    assert [plan[0] for plan in found[len(LENGTHS) :]] == [500, 250, 120, 100]
    assert {plan[1:] for plan in found[len(LENGTHS) :]} == {LENGTHS[-1]}


def test_small_lesions_and_few_cases_are_notes(store, tmp_path, measured, monkeypatch):
    measured(FAST)
    tiny = replace(fingerprint(str(store)), lesion_px=3.0)
    monkeypatch.setattr(search.workflows.init_study, "fingerprint", lambda path: tiny)
    said = "\n".join(write(store, tmp_path / "mine.yaml"))
    assert "note: half of the slices' lesions have at most 3 pixels at 32 x 32" in said
    assert "validation cases tell little apart" in said


def test_the_first_fold_that_can_be_validated_with(store, tmp_path, measured):
    """Fold 0 of this one has no lesion."""
    measured(FAST)
    copy = shutil.copytree(store, tmp_path / "store")
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    for case in manifest["cases"]:
        if case["fold"] == 0:
            case["lesion_ml"] = 0.0
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    write(copy, tmp_path / "mine.yaml")
    assert load_study(tmp_path / "mine.yaml").data.fold == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["{store}", "{out}", "--hours", "0"], "hours: 0: must be above 0"),
        (["{store}", "{out}", "--gpus", "-1"], "gpus: -1: must be at least 0"),
        (["{store}", "{out}/no/mine.yaml"], "no such folder"),
        (["{store}", "{store}/manifest.json"], "exists: choose another name or delete it"),
        (["nowhere", "{out}"], "nowhere: not a prepared store; make one"),
    ],
)
def test_refused_in_a_line(store, tmp_path, words, line):
    out = tmp_path / "mine.yaml"
    result = CliRunner().invoke(main, ["init", *(w.format(store=store, out=out) for w in words)])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1 and line in result.output
    assert not out.exists()


@pytest.mark.nightly  # measures for two minutes
def test_as_a_user_types_it(store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["init", str(store), "--hours", "0.5", "--gpus", "0"])
    assert result.exit_code == 0, result.output
    study = load_study(Path("store.yaml"))
    assert study.study == "store"
    said = CliRunner().invoke(main, ["launch", "store.yaml", "--dry-run", "--probe"])
    assert said.exit_code == 0, said.output
    planned, measured = (
        float(re.findall(r"about ([\d.]+) hours", output)[-1])
        for output in (result.output, said.output)
    )
    assert measured == pytest.approx(planned, rel=0.4)  # each of a minute, on a machine with others

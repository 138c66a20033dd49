"""`segtune explain` on real, small trainings: planted faults are named, healthy runs are not."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from search.cli.main import main
from search.ledger.journal import Ledger
from search.storage.s3 import Remote, mirror_of
from search.storage.s3_run import S3Run
from search.study.config import StudyConfig
from search.workflows.explain import WIDTH, explain, render
from tests.search.diagnosis.planted import (
    CONTROL,
    FAULTS,
    HEALTHY,
    study,
    train,
)

QUICK = ("eps", "one window", "lr")
NUMBERS = {name: number for number, name in enumerate(QUICK, start=1)}


def words(result: dict[str, Any], word: str) -> list[str]:
    return [finding["name"] for finding in result["findings"] if finding["word"] == word]


def finding(result: dict[str, Any], name: str) -> dict[str, Any]:
    return next(finding for finding in result["findings"] if finding["name"] == name)


@pytest.fixture(scope="module")
def planted(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A control and three faults, 400 images each."""
    trials = [CONTROL, *(HEALTHY | FAULTS[name][1] for name in QUICK)]
    return train(tmp_path_factory.mktemp("runs") / "planted", study(phantom_store, 2), trials)


@pytest.fixture(scope="module")
def explained(planted: Path) -> dict[str, dict[str, Any]]:
    return {name: explain(planted, number) for name, number in NUMBERS.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_the_planted_fault_comes_first(explained: dict[str, Any], name: str) -> None:
    result = explained[name]
    assert words(result, "cause likely")[:1] == [FAULTS[name][0]], render(result)
    assert result["findings"][0]["name"] == FAULTS[name][0]
    assert result["answer"].startswith(f"likely cause: {FAULTS[name][0]}")


@pytest.mark.slow
def test_the_next_step_undoes_the_fault(explained: dict[str, Any]) -> None:
    assert finding(explained["eps"], "timesteps")["next_step"] == "diffusion.target=v"
    assert finding(explained["lr"], "learning rate")["next_step"] == "optimizer.lr=0.03"
    steps = finding(explained["one window"], "inputs")["next_step"].split()
    assert sorted(steps) == ["data.windows.cbf=[0,35]", "data.windows.mtt=[0,20]"]


@pytest.mark.slow
def test_every_finding_has_its_figure(explained: dict[str, Any]) -> None:
    result = explained["eps"]
    assert [finding["name"] for finding in result["findings"]].count("trend") == 1
    assert {finding["name"] for finding in result["findings"]} >= {
        "inputs", "foreground", "learning rate", "loss", "averaging", "timesteps", "threshold",
        "missed lesions", "trend",
    }  # fmt: skip
    assert all(finding["figure"] for finding in result["findings"])
    levels = finding(result, "timesteps")["values"]["by_timestep"]
    dice = {level["t"]: level["dice"] for level in levels}
    assert dice[0] > 0.9 > 0.3 > dice[None]
    shares = finding(result, "loss")["values"]["shares"]
    assert sum(shares.values()) == pytest.approx(1)


@pytest.mark.slow
def test_the_text_is_short_and_the_json_strict(planted: Path) -> None:
    words = ["explain", "planted", "1", "--runs", str(planted.parent)]
    text = CliRunner().invoke(main, words)
    assert text.exit_code == 0
    lines = text.output.splitlines()
    assert len(lines) < 50
    assert max(map(len, lines)) <= WIDTH
    assert "likely cause: timesteps" in lines[1]
    shown = CliRunner().invoke(main, [*words, "--json"])
    result = json.loads(shown.output, parse_constant=lambda word: pytest.fail(word))
    assert result["findings"][0]["name"] == "timesteps"


@pytest.mark.slow
def test_a_control_has_no_timesteps(planted: Path) -> None:
    result = explain(planted, 0)
    assert finding(result, "timesteps")["word"] == "not measured"
    assert finding(result, "averaging")["word"] != "not measured"
    assert "neighbours" not in [finding["name"] for finding in result["findings"]]


@pytest.mark.slow
def test_without_weights_the_ledger_and_the_store_tell(planted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "planted"
    shutil.copytree(planted, folder, ignore=shutil.ignore_patterns("*.pt"))
    result = explain(folder, NUMBERS["one window"])
    assert words(result, "cause likely") == ["inputs"]
    assert "timesteps" not in [finding["name"] for finding in result["findings"]]
    assert any("no weights are here" in note for note in result["notes"])

    for name in QUICK:  # ema.pt alone has no raw weights
        source = planted / "trials" / f"{NUMBERS[name]:04d}" / "ema.pt"
        shutil.copy(source, folder / "trials" / f"{NUMBERS[name]:04d}")
    result = explain(folder, NUMBERS["eps"])
    assert result["findings"][0]["name"] == "timesteps"
    assert finding(result, "averaging")["word"] == "not measured"


@pytest.mark.slow
def test_without_the_store_the_ledger_tells(planted: Path, tmp_path: Path) -> None:
    result = explain(planted, 1, str(tmp_path / "elsewhere"))
    assert {finding["name"] for finding in result["findings"]} == {
        "learning rate", "loss", "neighbours", "trend",
    }  # fmt: skip
    assert any("--store" in note for note in result["notes"])


@pytest.mark.slow
def test_no_such_trial(planted: Path) -> None:
    said = CliRunner().invoke(main, ["explain", "planted", "77", "--runs", str(planted.parent)])
    assert said.exit_code == 2
    assert said.stderr.count("\n") == 1
    assert said.stderr == "planted:77: no such trial; there are 0 to 3\n"


@pytest.mark.slow
def test_weights_that_lie_in_s3(planted: Path, s3: str, tmp_path: Path) -> None:
    remote = Remote.parse(s3) / "planted"
    folder = mirror_of(Remote.parse(s3)) / "planted"
    folder.mkdir()
    shutil.copy(planted / "ledger.jsonl", folder)
    number = NUMBERS["eps"]
    with S3Run(remote, tmp_path / "node", number, (1, 1), {}):
        shutil.copytree(planted / "trials" / f"{number:04d}", tmp_path / "node", dirs_exist_ok=True)
    result = explain(folder, number)
    assert result["findings"][0]["name"] == "timesteps"
    assert finding(result, "averaging")["word"] != "not measured"
    assert not list(folder.rglob("*.pt"))


LEDGER_ONLY = study(Path("nowhere"), 9)


def write(folder: Path, trials: list[tuple[dict[str, Any], list[float], str]]) -> Path:
    """A study without run folders: of each trial its parameters, Dice by epoch and ending."""
    config: StudyConfig = LEDGER_ONLY
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append({"event": "study", "config": config.model_dump(mode="json")})
        for number, (params, values, ending) in enumerate(trials):
            about = {"trial": number, "kind": "sampled", "protected": False}
            ledger.append({"event": "proposed", "params": params, **about})
            ledger.append(
                {"event": "started", "trial": number, "attempt": 1, "host": "h", "pid": 1}
            )
            for epoch, value in enumerate(values, start=1):
                about = {"trial": number, "epoch": epoch, "value": value}
                metrics = {"val/dice": value, "train/noise": 1 / epoch, "train/loss": 1 / epoch}
                metrics |= {"train/noise_weighted": 1 / epoch, "train/grad_norm": 2.0}
                ledger.append({"event": "reported", "metrics": metrics, **about})
            if ending:
                about = {"trial": number, "epoch": len(values), "reason": "why"}
                ledger.append({"event": "ended", "ending": ending, **about})
    return folder


RISING = [0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5]
SPACE = {"optimizer.lr": 1e-3, "diffusion.target": "eps", "diffusion.input_scale": 1.0}


def test_how_it_ended_and_what_its_series_says(tmp_path: Path) -> None:
    folder = write(
        tmp_path / "planted",
        [
            (SPACE, RISING, "completed"),
            (SPACE, RISING[::-1], "completed"),
            (SPACE, RISING, ""),
            (SPACE, RISING[:3], "stopped"),
            (SPACE | {"optimizer.lr": 0.2}, RISING[:2], "diverged"),
            (SPACE, [], "failed"),
        ],
    )
    results = [explain(folder, number) for number in range(6)]
    trends = [finding(result, "trend") for result in results]
    step = "segtune resume planted:0 --epochs 27"
    assert (trends[0]["word"], trends[0]["next_step"]) == ("suspicious", step)
    assert "over-fitting" in trends[1]["compared"]
    assert trends[2]["word"] == "ok"  # it rises, and goes on
    assert trends[3]["word"] == "not measured"
    assert "rung: why" in finding(results[3], "ending")["figure"]
    assert results[4]["findings"][0]["name"] == "ending"
    assert results[4]["findings"][0]["next_step"] == "optimizer.lr=0.02"
    assert results[5]["findings"][0]["figure"] == "failed at epoch 0: why"
    assert [result["answer"] for result in results] == [
        "no clear cause; to look at: trend",
        "no clear cause; to look at: trend",
        "nothing wrong found",
        "nothing wrong found",
        "likely cause: ending: with optimizer.lr 0.2; try optimizer.lr=0.02",
        "likely cause: ending: failed at epoch 0: why",
    ]
    for result in results:
        head, answer, *_ = render(result).splitlines()
        assert head.startswith(f"planted:{result['trial']} (sampled): {result['status']}, epoch")
        assert answer == result["answer"]


def test_what_the_neighbours_that_did_better_changed(tmp_path: Path) -> None:
    better = [value + 0.1 for value in RISING]
    folder = write(
        tmp_path / "planted",
        [
            (SPACE, RISING, "completed"),
            (SPACE | {"diffusion.target": "v", "diffusion.input_scale": 0.1}, better, "completed"),
            (SPACE | {"diffusion.target": "v"}, better, "completed"),
            (SPACE | {"diffusion.target": "v", "optimizer.lr": 2e-3}, better[:9], "completed"),
            (SPACE | {"optimizer.lr": 2e-3}, [0.01] * 9, "completed"),
            (SPACE | {"optimizer.lr": 5e-4}, better[:4], "stopped"),
        ],
    )
    found = finding(explain(folder, 0), "neighbours")
    values = found["values"]
    assert (values["num_better"], values["num_compared"]) == (3, 4)
    assert [near["trial"] for near in values["nearest"]] == [2, 3, 1]
    assert values["nearest"][0]["changed"] == {"diffusion.target": ["eps", "v"]}
    assert values["nearest"][0]["gain"] == pytest.approx(0.1)
    assert values["all_better_have"] == {"diffusion.target": "v"}
    assert found["next_step"] == "diffusion.target=v"
    assert "exploratory" in found["compared"]


def test_a_reference_is_called_by_its_name(tmp_path: Path) -> None:
    packed = Path(__file__).resolve().parents[3] / "spaces" / "results" / "hippocampus.jsonl.gz"
    (tmp_path / "ledger.jsonl").write_bytes(gzip.decompress(packed.read_bytes()))
    text = render(explain(tmp_path, 1))
    assert text.startswith("hippocampus:1 (reference baseline): completed, epoch 4, Dice 0.112")


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [11, 12, 13])
def test_hits_and_false_alarms_on_other_seeds(
    tmp_path: Path, larger_store: Path, seed: int
) -> None:
    """Criteria were tuned on seeds 0 and 1 of the same store."""
    plain = {"healthy": {}, "x_start": {"diffusion.target": "x_start"}}
    trials = plain | {name: changed for name, (_, changed) in FAULTS.items()}
    folder = train(
        tmp_path / "planted",
        study(larger_store, 4, seed=seed),
        [CONTROL, *(HEALTHY | changed for changed in trials.values())],
    )
    for number, name in enumerate(["control", *trials]):
        result = explain(folder, number)
        expected = FAULTS[name][0] if name in FAULTS else None
        first = [*words(result, "cause likely"), None][0]
        assert first == expected, f"{name}: {render(result)}"


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [14, 15, 16])
def test_an_average_that_lags(tmp_path: Path, larger_store: Path, seed: int) -> None:
    """A half-life far too long, in the steepest part of a slow warm-up.

    The ramp of the half-life bounds the lag to about an eighth of the images seen: it shows while
    the weights still move most of their way in that eighth.
    """
    config = study(larger_store, 7, seed=seed, epoch_images=96)
    lags = {
        "model.family": "unet",
        "batch.effective": 16,
        "optimizer.lr": 8e-3,
        "optimizer.lr_schedule": "constant",
        "optimizer.warmup_images": 4000,
        "optimizer.ema_half_life_images": 10**6,
    }
    short = lags | {"optimizer.ema_half_life_images": 10}
    folder = train(tmp_path / "planted", config, [CONTROL | {"batch.effective": 16}, lags, short])
    result = explain(folder, 1)
    assert words(result, "cause likely")[:1] == ["averaging"], render(result)
    assert "averaging" not in words(explain(folder, 2), "cause likely")


@pytest.fixture(scope="module")
def larger_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 phantom cases, 4 of them to validate with."""
    from trainer.data.phantom import write_phantom
    from trainer.data.prepare import prepare

    folder = tmp_path_factory.mktemp("larger")
    write_phantom(folder / "dataset", num_cases=24, seed=1)
    prepare(folder / "dataset", folder / "store", image_size=32, workers=1)
    return folder / "store"

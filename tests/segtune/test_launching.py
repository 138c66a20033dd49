"""`segtune.launch` does and says what the command does and says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

import segtune
from search.cli.main import main
from search.study.config import StudyConfig
from search.study.load import load_study
from trainer.exit_status import Exit


@pytest.fixture
def settings(work: Path) -> dict[str, Any]:
    return yaml.safe_load((work / "mine.yaml").read_text())


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[StudyConfig]:
    """What would be launched, without Ray."""
    found: list[StudyConfig] = []

    def launch(study: StudyConfig, *args: Any, **options: Any) -> int:
        found.append(study)
        return Exit.BROKEN if study.study == "broken" else Exit.DONE

    monkeypatch.setattr("search.workflows.launch.launch", launch)
    return found


def test_a_path_a_dict_and_a_config_are_the_same_study(
    settings: dict[str, Any], launched: list[StudyConfig], work: Path
) -> None:
    config = load_study("mine.yaml")
    odd = settings | {"data": {"store": work / "store", "fold": np.int64(0)}}
    for words in ("mine.yaml", Path("mine.yaml"), settings, odd, config):
        study = segtune.launch(words, runs="runs")
        assert study.folder == work / "runs" / "mine" and len(study.trials()) == 7
    assert {each.config_hash() for each in launched} == {config.config_hash()}
    assert all(each.frozen for each in launched)
    assert settings == yaml.safe_load((work / "mine.yaml").read_text())
    segtune.launch(settings, "runs", overrides=["trials.num_trials=9"])
    assert launched[-1].trials.num_trials == 9


def test_what_is_wrong_is_said_as_the_command_says_it(
    settings: dict[str, Any], launched: list[StudyConfig], work: Path
) -> None:
    wrong: list[dict[str, Any]] = [
        settings | {"sampler": {"type": "tpu"}, "seed": -1},
        settings | {"data": {"store": str(work / "nowhere")}},
        settings | {"train": {"init_from": "nothing.pt"}},
        settings | {"references": [{"name": "theirs", "masks": "no_masks"}]},
    ]
    for each in wrong:
        (work / "wrong.yaml").write_text(yaml.safe_dump(each))
        said = CliRunner().invoke(main, ["launch", "wrong.yaml", "--runs", "runs"])
        assert said.exit_code == 2
        with pytest.raises(ValueError) as raised:
            segtune.launch(each, "runs")
        assert str(raised.value).replace("study: ", "wrong.yaml: ") in said.output
    with pytest.raises(ValueError, match=r"^study: \{1, 2\}: must be what a YAML file can say$"):
        segtune.launch(settings | {"seed": {1, 2}}, "runs")
    assert not launched


def test_nothing_but_failures_is_an_error(
    settings: dict[str, Any], launched: list[StudyConfig]
) -> None:
    with pytest.raises(RuntimeError, match=r"^broken: no trial has a result"):
        segtune.launch(settings | {"study": "broken"}, "runs")
    assert launched

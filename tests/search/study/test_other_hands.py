# ruff: noqa: E501, RUF001 - a mistake and its answer stand on one line
"""Study files as other programs and other habits write them: each gets the line that helps."""

from pathlib import Path

import pytest

from search.study.load import load_study
from search.workflows.preview.dry_run import store_problems
from trainer.configfile import ConfigError

STUDY = """
study: x
data: {{store: .}}
trials: {{num_trials: 3}}
scheduler: {{type: none, max_t: 3}}
{}
"""
WEIGHTED = """space:
  loss.weighting: {type: categorical, choices: [fixed, warm_in]}
  loss.dice: {type: float, low: 0.1, high: 1, when: WHEN}"""
LOG = "{type: float, low: 0.0001, high: 0.001, log: true}"


def told(path: Path, text: str, *words: str) -> list[str]:
    path.write_text(STUDY.format(text))
    try:
        load_study(path, words)
    except ConfigError as error:
        return [line.removeprefix(f"{path}: ") for line in error.lines]
    return []


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ("lr: [1e-4, 1e-3]", f"space.lr: [0.0001, 0.001]: must be a dimension, as in optimizer.lr: {LOG}"),
        ("optimizer.lr: [1e-4, 1e-3]", f"space.optimizer.lr: [0.0001, 0.001]: must be a dimension, as in optimizer.lr: {LOG}"),
        ("model.depth: [2, 4]", "space.model.depth: [2, 4]: must be a dimension, as in model.depth: {type: int, low: 2, high: 4}"),
        ("batch_size: [8, 16, 32]", "space.batch_size: [8, 16, 32]: must be a dimension, as in batch.effective: {type: categorical, choices: [8, 16, 32]}"),
        ("optimizer.lr: 1e-4", "space.optimizer.lr: 0.0001: must be a dimension, as in optimizer.lr: {type: float, low: 1e-5, high: 1e-3, log: true}; one value for all trials stands in train"),
        ("optimizer.lr: {type: float, min: 1e-4, high: 1}", "space.optimizer.lr: min: no such key; did you mean low?"),
        ("batch_size: {type: categorical, choices: [8]}", "space.batch_size: no such trainer setting; did you mean batch.effective?"),
        ("optimizer.lr: {type: loguniform, low: 1e-4, high: 1}", "space.optimizer.lr: type: 'loguniform': must be 'float', 'int' or 'categorical'; did you mean float with log: true?"),
        ("optimizer: {lr: {type: float, low: 1e-4, high: 1}}", "space.optimizer: must be dotted, a line each: optimizer.lr: {type: …}"),
        ("optimizer.lr: {type: float, low: 1e–4, high: 1}", "space.optimizer.lr: low: '1e–4': must be a number; did you mean 1e-4?"),
        ("optimizer.lr: {type: float, low: 0,0001, high: 1}", "line 6: '0001': must be decimal, or hexadecimal after 0x; did you mean 0.0001?"),
        ("optimizer.lr: {type: float, low: 0,5, high: 1}", "line 6: key 5: must be text; did you mean 0.5?"),
    ],
)  # fmt: skip
def test_a_dimension_that_is_none_is_shown_what_one_looks_like(
    tmp_path: Path, space: str, line: str
) -> None:
    assert line in told(tmp_path / "s.yaml", f"space: {{{space}}}")


@pytest.mark.parametrize(
    ("when", "line"),
    [
        ("{loss.weighting: warm_in}", "when.loss.weighting: 'warm_in': must be a list: [warm_in]"),
        ("loss.weighting", "when: 'loss.weighting': must be a valid dictionary"),
    ],
)
def test_a_condition_is_told_that_it_needs_a_list(tmp_path: Path, when: str, line: str) -> None:
    found = told(tmp_path / "s.yaml", WEIGHTED.replace("WHEN", when))
    assert found == [f"space.loss.dice: {line}"]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("batch_size", "train.batch.effective"), ("lr", "train.optimizer.lr"),
        ("learning_rate", "train.optimizer.lr"), ("epochs", "scheduler.max_t"),
        ("n_trials", "trials.num_trials"), ("model.width", "train.model.width"),
        ("early_stopping", "stall.patience"), ("num_gpus", "trials.gpus_per_trial"),
        ("timeout", "budget.wall_hours"), ("beta_schedule", "train.diffusion.noise_schedule"),
    ],
)  # fmt: skip
def test_names_of_other_programs_lead_to_the_leaf_that_is_meant(
    tmp_path: Path, key: str, meant: str
) -> None:
    answer = f"{key}: no such key; did you mean {meant}?"
    assert told(tmp_path / "s.yaml", f"space: {{}}\n{key}: 8") == [answer]
    assert told(tmp_path / "s.yaml", "space: {}", f"{key}=8") == [f"command line: {answer}"]


def test_a_file_that_is_no_utf_8_names_the_command_that_makes_it_so(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    for text, encoding in (("study: x", "UTF-16"), ("# größe", "CP1252")):
        path.write_bytes(text.encode(encoding))
        with pytest.raises(ConfigError, match=f"must be UTF-8: iconv -f {encoding} -t UTF-8$"):
            load_study(path)


def test_a_comment_within_a_path_is_told(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("study: x\ndata: {store: prepared/store #1, fold: 0}\nspace: {}\n")
    with pytest.raises(ConfigError, match=r"` #` begins a comment: quote the text$"):
        load_study(path)
    (tmp_path / "store #1").mkdir()
    path.write_text(
        STUDY.format("space: {}").replace("{store: .}", f"\n  store: {tmp_path}/store #1")
    )
    [line] = store_problems(load_study(path))
    assert f"did you mean '{tmp_path}/store #1'? In YAML ` #` begins a comment: quote it" in line

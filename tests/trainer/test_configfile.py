# ruff: noqa: E501, RUF001 - a mistake and its answer stand on one line
"""Configuration files: YAML 1.2 numbers, dotted keys, and errors that name the remedy."""

import pickle
from pathlib import Path

import pytest

from tests.badinput.judge import run
from trainer.config import TrainConfig
from trainer.configfile import ConfigError, build, flatten, nest, parse_overrides, read_yaml
from trainer.hints.written_numbers import number_meant
from trainer.model_config import ModelConfig


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E3", 1000.0), ("-.5", -0.5), ("3", 3), ("1.", 1.0), ("0.25", 0.25),
        ("cosine", "cosine"), ("true", True), ("null", None), ("[1, 2e-1]", [1, 0.2]), ("1e", "1e"),
        ("'1e-4'", "1e-4"), ("", None), ("a=b", "a=b"),
    ],
)  # fmt: skip
def test_values_are_yaml_1_2(text: str, value: object, tmp_path: Path) -> None:
    assert parse_overrides([f"key={text}"]) == {"key": value}
    (tmp_path / "c.yaml").write_text(f"key: {text}\n")
    read = read_yaml(tmp_path / "c.yaml")["key"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "/a/store #1",
        "/a: b",
        "C:\\data\\x",
        "100%",
        "%x",
        "@x",
        "`x`",
        "it's (2)",
        "a?b&c",
        "~/x",
        "=",
    ],
)
def test_a_value_that_begins_like_none_of_yamls_is_text_to_its_end(text: str) -> None:
    assert parse_overrides([f"key={text}"]) == {"key": text}


def test_lists_mappings_and_quotes_stay_yaml() -> None:
    words = ["a=[1, x]", "b={c: 1e-4}", "d='x #1'", 'e="x #1"', "f=- 1\n- 2"]
    values = {"a": [1, "x"], "b": {"c": 1e-4}, "d": "x #1", "e": "x #1", "f": [1, 2]}
    assert parse_overrides(words) == values


@pytest.mark.parametrize(
    ("text", "meant"),
    [("1e–4", "1e-4"), ("10^-4", "1e-4"), ("2·10^-4", "2e-4"), ("0,01", "0.01"), ("1.000,5", "1000.5"),
     ("1 000", "1000"), ("1,000", "1000, or 1.000")],
)  # fmt: skip
def test_numbers_of_word_processors_are_told_from_text(text: str, meant: str) -> None:
    assert number_meant(text) == f"; did you mean {meant}?"
    assert not number_meant("warm_in") + number_meant("") + number_meant("12a")


def test_dotted_keys_and_back() -> None:
    nested = nest({"a.b.c": 1, "a.b": {"d": 2}, "e": 3}, onto={"a": {"f": 4}, "e": 0})
    assert nested == {"a": {"b": {"c": 1, "d": 2}, "f": 4}, "e": 3}
    assert flatten(nested) == {"a.b.c": 1, "a.b.d": 2, "a.f": 4, "e": 3}


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"optimiser.lr": 1}, "f: optimiser.lr: no such key; did you mean optimizer.lr?"),
        ({"model.widht": 8}, "f: model.widht: no such key; did you mean model.width?"),
        ({"lr": 8}, "f: lr: no such key; did you mean optimizer.lr?"),
        ({"diffusion.target": "x0_start"}, "f: diffusion.target: 'x0_start': must be 'eps', 'x_start' or 'v'; did you mean x_start?"),
        ({"optimizer.lr": -1}, "f: optimizer.lr: -1: must be greater than 0"),
        ({"optimizer.lr": float("nan")}, "f: optimizer.lr: nan: must be a finite number"),
        ({"batch.micro": 3}, "f: batch: micro is 3, but must divide effective (8)"),
        ({"batch.effective": 2000}, "f: batch.effective is 2000, but must be at most epoch_images (1000)"),
        ({"loss.dice": 0, "loss.bce": 0, "model.family": "unet"}, "f: loss: no loss on the mask has a weight, but model.family unet needs one"),
        ({"loss.noise": 0, "loss.dice": 0, "loss.bce": 0}, "f: loss: all weights are 0, but one must be positive"),
        ({"loss.dice": 0, "loss.bce": 0, "loss.boundary": 1}, "f: loss: boundary is the only loss on the mask, but says nothing of slices without lesion: it needs dice, bce, focal or tversky beside it"),
        ({"diffusion.target": "eps", "diffusion.zero_terminal_snr": True}, "f: diffusion: zero_terminal_snr is true, but with target eps pure noise says nothing of x_start: use x_start or v"),
        ({"diffusion.target": "v", "diffusion.recycling": 0.5}, "f: diffusion: recycling needs target x_start, but target is v"),
        ({"diffusion.recycling": 0.5, "diffusion.self_conditioning": 0.5}, "f: diffusion: recycling and self_conditioning exclude each other"),
        ({"sampling.timestep_respacing": "ddim300"}, "f: sampling.timestep_respacing is 'ddim300', but no integer stride takes 300 of 1000 timesteps: ddim334 does, and 300 without ddim always"),
        ({"sampling.timestep_respacing": "fast"}, "f: sampling.timestep_respacing is 'fast', but must be a number of steps, ddimN, or the numbers of steps in equal sections such as 10,20,30"),
        ({"data.windows": {"ncct": "80/40"}}, "f: data.windows.ncct: '80/40': must be [low, high], or width and level as in w80l40"),
        ({"sampling.timestep_respacing": 2000}, "f: sampling.timestep_respacing is 2000, but must be in 1..num_timesteps (1000)"),
        ({"data.windows": {"cbf": [3, 3]}}, "f: data.windows.cbf: 3..3: low must be below high"),
    ],
)  # fmt: skip
def test_one_line_per_mistake(settings: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError) as error:
        build(TrainConfig, nest({"data.store": "s"} | settings), "f")
    assert error.value.lines == [line]


def test_a_preset_fills_in_what_is_not_given() -> None:
    def model(**settings: object) -> ModelConfig:
        return build(TrainConfig, {"data": {"store": "s"}, "model": settings}, "f").model

    assert [model(preset=size).depth for size in "SBL"] == [5, 6, 7]  # 4, 5, 6 down-samplings
    assert model(preset="B", width=16).width == 16
    assert model(**model(preset="L").model_dump()) == model(preset="L")


def test_all_mistakes_at_once() -> None:
    with pytest.raises(ConfigError) as error:
        build(TrainConfig, nest({"model.width": 3, "model.depth": 99, "seed": "x"}), "f")
    assert len(error.value.lines) == 4  # and data is missing


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [1", "not YAML"),
        ("- 1", "expected a mapping"),
        ("a: 1\na: 2\n", "key 'a' is given twice"),
    ],
)
def test_files_that_are_no_configuration(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(ConfigError, match=message) as error:
        read_yaml(tmp_path / "c.yaml")
    assert len(error.value.lines) == 1
    with pytest.raises(ConfigError, match="No such file"):
        read_yaml(tmp_path / "missing.yaml")


@pytest.mark.parametrize(
    "words", [["missing.yaml"], ["c.yaml", "model.widht=8"], ["c.yaml", "width"], ["c.yaml"]]
)
def test_the_command_answers_in_lines_and_status_2(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text("data.store: nowhere\n")
    monkeypatch.chdir(tmp_path)
    answer = run("train", *words, program="trainer")
    assert answer.status == 2
    assert len(answer.lines) == 1 and "Traceback" not in answer.lines[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.yaml"]  # nothing half-written


def test_errors_reach_other_processes() -> None:
    error = pickle.loads(pickle.dumps(ConfigError(["a: one", "b: two"])))
    assert error.lines == ["a: one", "b: two"] and str(error) == "a: one\nb: two"

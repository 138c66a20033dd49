"""What the README says exists."""

import re
import shlex
from pathlib import Path

import click
import pytest

from search.cli.main import main as segtune
from search.study.load import load_study
from trainer.__main__ import cli as trainer
from trainer.config import TrainConfig
from trainer.configfile import build, flatten, nest, parse_overrides

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```\w*\n(.*?)^```", README, re.M | re.S)
COMMANDS = [
    line.split("  #")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if re.match(r"(segtune|make|python -m trainer) ", line)
]


@pytest.mark.parametrize("name", segtune.commands)
def test_it_or_the_page_on_clusters_shows_every_command(name: str) -> None:
    pages = README + (ROOT / "cluster" / "README.md").read_text()
    assert re.search(rf"\bsegtune {name}\b", pages)


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert words[1] in targets
        return
    group, words = (segtune, words[1:]) if words[0] == "segtune" else (trainer, words[3:])
    name, *rest = words
    assert name in group.commands
    # Parsing refuses an option that the command does not have, and a missing argument.
    group.commands[name].make_context(name, rest, parent=click.Context(group))


def test_the_example_study_is_sound(tmp_path: Path) -> None:
    [example] = re.findall(r"^```yaml\n(.*?)^```", README, re.M | re.S)
    (tmp_path / "mine.yaml").write_text(example)
    study = load_study(tmp_path / "mine.yaml")
    assert study.references and study.space["loss.warm_in_fraction"].when


def test_the_table_of_other_trainers_names_real_settings() -> None:
    [table] = re.findall(r"^## Coming from .*?(?=^## )", README, re.M | re.S)
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    ours = [word for row in rows for word in re.findall(r"`([^`]+)`", row[1])]
    settings = [word for word in ours if re.fullmatch(r"[a-z_0-9.]+: [\w.-]+", word)]
    assert len(settings) > 25
    needed = {"data.store": ".", "epoch_images": 100}
    defaults = flatten(build(TrainConfig, nest(needed), "README").model_dump())
    for word in settings:
        key, _, value = word.partition(": ")
        if not key.startswith(("trials.", "scheduler.")):
            build(TrainConfig, nest(needed | parse_overrides([f"{key}={value}"])), "README")
    keys = [word for word in ours if re.fullmatch(r"[a-z]+\.[a-z_]+", word)]
    assert keys and not {*keys} - defaults.keys()


def test_the_tree_names_what_is_there() -> None:
    tree = BLOCKS[-1]
    for path in (ROOT / "spaces").glob("*.yaml"):
        assert path.name in tree, f"spaces/{path.name} is not in the README's tree"
    for folder in ("search", "trainer"):
        for path in (ROOT / folder).glob("*/__init__.py"):
            assert f"{path.parent.name}/" in tree, f"{folder}/{path.parent.name}/ is not in it"
    top = ""
    for line in tree.splitlines():
        top = top if line.startswith(" ") else line.split()[0]
        for name in re.findall(r"(?<!\S)[\w.-]+(?:/|\.yaml|\.py|\.txt)(?!\S)", line):
            places = (ROOT / name, ROOT / top / name)
            assert any(place.exists() for place in places), f"{name} is nowhere"

"""What README and the other pages say exists."""

import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import click
import pytest

from docs.picture import PICTURE
from search.cli.main import main as segtune
from search.study.load import load_study
from trainer.__main__ import cli as trainer
from trainer.config import TrainConfig
from trainer.configfile import build, flatten, nest, parse_overrides

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("[ces]*/**/README.md")]
    )
}
NOW = {name: text for name, text in PAGES.items() if name != "CHANGELOG.md"}
"""The pages that say what is, not what was."""
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.M | re.S)
COMMANDS = sorted(
    {
        line.split("  #")[0].split(" && ")[0].strip()
        for text in NOW.values()
        for block in BLOCK.findall(text)
        for line in block.splitlines()
        if re.match(r"(segtune|make|python -m trainer) ", line)
    }
    # What stands in the table of README is given with all of its words, too.
    | {*re.findall(r"^\| `(segtune [^`]+)` ", README, re.M)}
)


@pytest.mark.parametrize("name", segtune.commands)
def test_a_page_shows_every_command(name: str) -> None:
    pages = [text for page, text in NOW.items() if page != "docs/architecture.md"]
    assert re.search(rf"\bsegtune {name}\b", "\n".join(pages))


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


@pytest.mark.parametrize("page", NOW)
def test_commands_within_sentences_exist(page: str) -> None:
    named = re.findall(r"`segtune ([a-z]+)", PAGES[page])
    assert not {*named} - segtune.commands.keys()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = BLOCK.sub("", PAGES[page])
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (ROOT / page).parent / unquote(name) if name else ROOT / page
        assert target.exists(), f"{page}: {link}"
        assert target.resolve().is_relative_to(ROOT), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text()), f"{page}: {link}"


def anchors(text: str) -> set[str]:
    """Return what the headings of a page are called in links, as GitHub does it."""
    headings = re.findall(r"^#+ (.*)$", BLOCK.sub("", text), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def test_every_page_and_picture_is_linked() -> None:
    linked = {
        ((ROOT / page).parent / link.partition("#")[0]).resolve()
        for page, text in PAGES.items()
        for link in re.findall(r"\]\(([^)\s]+)\)", text)
    }
    pages = {(ROOT / page).resolve() for page in PAGES if page != "README.md"}
    assert not {*pages, *ROOT.glob("docs/*.png"), PICTURE} - linked


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1000


def test_the_example_study_is_sound(tmp_path: Path) -> None:
    [example] = re.findall(r"^```yaml\n(.*?)^```", README, re.M | re.S)
    (tmp_path / "mine.yaml").write_text(example)
    study = load_study(tmp_path / "mine.yaml")
    assert study.references and study.space["loss.warm_in_fraction"].when


def test_the_table_of_other_trainers_names_real_settings() -> None:
    table = PAGES["docs/migrating.md"]
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
    [tree] = BLOCK.findall(PAGES["docs/architecture.md"])
    for path in (ROOT / "spaces").glob("*.yaml"):
        assert path.name in tree, f"spaces/{path.name} is not in the tree"
    for folder in ("search", "trainer"):
        for path in (ROOT / folder).glob("*/__init__.py"):
            assert f"{path.parent.name}/" in tree, f"{folder}/{path.parent.name}/ is not in it"
    top = ""
    for line in tree.splitlines():
        top = top if line.startswith(" ") else line.split()[0]
        for name in re.findall(r"(?<!\S)[\w.-]+(?:/|\.yaml|\.py|\.txt)(?!\S)", line):
            places = (ROOT / name, ROOT / top / name)
            assert any(place.exists() for place in places), f"{name} is nowhere"

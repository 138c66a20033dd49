"""`segtune check STUDY --bundle`: nothing that others planted, and no secret, gets into it."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest
import yaml

from search.execution.auth import find_token
from search.workflows.check.bundle import write_bundle
from tests.search.conftest import ROOT


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished study of version 0.1, and folders of Ray's that are this test's alone."""
    shutil.copytree(ROOT / "tests" / "fixtures" / "v0_1" / "runs" / "finished", tmp_path / "study")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "study"


def packed(study: Path) -> dict[str, str]:
    """Return the texts in the study's bundle, by name."""
    out = study.parent / "b.tar.gz"
    write_bundle(study, out, [])
    texts = {}
    with tarfile.open(out) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file
            texts[member.name.partition("/")[2]] = file.read().decode()
    return texts


def test_what_others_planted_is_not_followed(study: Path) -> None:
    elsewhere = study.parent / "elsewhere"
    (elsewhere / "logs").mkdir(parents=True)
    for path in (elsewhere / "key", elsewhere / "log.txt", elsewhere / "logs" / "raylet.out"):
        path.write_text("of another user")
    (study / "trials" / "0001" / "log.txt").symlink_to(elsewhere / "key")
    os.mkfifo(study / "trials" / "0002" / "log.txt")
    (study / "trials" / "0099").symlink_to(elsewhere)
    (study.parent / "ray").mkdir()
    (study.parent / "ray" / "session_2026-01-01").symlink_to(elsewhere)
    linked = study.parent / "ray" / "session_2026-01-02"
    linked.mkdir()
    (linked / "logs").symlink_to(elsewhere / "logs")
    texts = packed(study)
    assert [name for name, text in texts.items() if "of another user" in text] == []
    for name in ("trials/0001/log.txt", "trials/0002/log.txt"):
        assert "is no regular file" in texts[name]


def test_a_bad_notify_variable_hides_no_other_secret(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, words = "ab" * 32, "tell sesame-open"
    (study.parent / "token").write_text(token)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(study.parent / "token"))
    monkeypatch.setenv("SEGTUNE_NOTIFY_WEBHOOK", "nonsense")
    assert find_token() == token
    settings = study / "study.yaml"
    settings.write_text(f"{settings.read_text()}\nnotify:\n  command: {words}\n")
    (study / "trials" / "0001" / "log.txt").write_text(f"sent {token}, then: {words}\n")
    assert packed(study)["trials/0001/log.txt"] == "sent [struck out], then: [struck out]\n"


def test_secrets_that_yaml_folds_are_struck_out(study: Path) -> None:
    command = f"tell {'--loud ' * 20}sesame-open"
    settings = study / "study.yaml"
    folded = yaml.safe_dump({"notify": {"command": command, "on": ["end"]}, "also": ["a=b"]})
    assert "sesame" not in folded.partition("command")[2].partition("\n")[0]
    settings.write_text(f"{settings.read_text()}\n{folded}")
    text = packed(study)["study.yaml"]
    assert "sesame" not in text and "  command: [struck out]\n" in text
    assert "study: finished\n" in text and "- a=b\n" in text
    settings.write_text(folded + "{")
    assert "sesame" not in packed(study)["study.yaml"]

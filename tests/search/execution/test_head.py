"""Where jobs meet: what is believed of it."""

import os
from pathlib import Path

import pytest

from search.execution.own_ray.head import (
    ask_to_leave,
    head_folder,
    leaving,
    let_go,
    said,
    say,
    waits_to_leave,
)
from search.ledger.users import user_name


@pytest.fixture
def study(tmp_path: Path) -> Path:
    head_folder(tmp_path).mkdir()
    return tmp_path


def test_what_the_head_says_is_heard(study: Path) -> None:
    assert said(study) == {}
    say(study, {"address": "10.0.0.1:6379"})
    assert said(study) == {"address": "10.0.0.1:6379"}


@pytest.mark.parametrize("content", [b"[1]", b"{", b"\xff", b"[" * 100_000])
def test_what_is_no_word_of_ours_is_none(study: Path, content: bytes) -> None:
    (head_folder(study) / "now.json").write_bytes(content)
    assert said(study) == {}


def test_nobody_is_sent_where_somebody_else_says(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would be shown the token there."""
    path = head_folder(study) / "now.json"
    path.symlink_to(study / "elsewhere.json")
    (study / "elsewhere.json").write_text('{"address": "10.0.0.66:6379"}')
    assert said(study) == {}
    path.unlink()
    os.mkfifo(path)
    assert said(study) == {}
    path.unlink()
    say(study, {"address": "10.0.0.66:6379"})
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert said(study) == {"member": user_name(os.geteuid())}


def test_a_node_asks_and_is_let_go(study: Path) -> None:
    ask_to_leave(study, "one")
    assert [*leaving(study)] == ["one"] and waits_to_leave(study, "one")
    let_go(study, "one")
    let_go(study, "one")
    assert not waits_to_leave(study, "one")

"""`segtune check STUDY`: damage is found and named, and mended where the rest proves how."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from search.ledger.lease import Lease
from search.monitor.status import status
from search.workflows.check.bundle import redacted
from tests.search.trained_study import GOOD, segtune
from tests.trainer.test_loop import flip_a_bit
from trainer.exit_status import Exit


@pytest.fixture
def demo(trained_runs: Path, tmp_path: Path) -> Path:
    """A study of trained trials."""
    shutil.copytree(trained_runs / "demo", tmp_path / "runs" / "demo")
    folder = tmp_path / "runs" / "demo"
    segtune("check", "demo", "--runs", folder.parent, "--repair")
    return folder


def check(folder: Path, *words: str, wrong: bool) -> str:
    ended = Exit.WRONG if wrong else Exit.DONE
    return segtune("check", folder.name, "--runs", folder.parent, *words, status=ended)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x20
    path.write_bytes(content)


def flip_in_weights(path: Path) -> None:
    path.write_bytes(flip_a_bit(path.read_bytes()))  # between its entries a ZIP file is padded


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def folder_there(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


TRIAL = f"trials/{GOOD:04d}"


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("ledger.jsonl", flip),
        ("study.yaml", emptied),
        ("stop", folder_there),
        (f"{TRIAL}/stop", folder_there),
        (f"{TRIAL}/owner", folder_there),
        (f"{TRIAL}/metrics.jsonl", emptied),
        (f"{TRIAL}/config.yaml", emptied),
        (f"{TRIAL}/cases.parquet", emptied),
        (f"{TRIAL}/ema.pt", flip_in_weights),
    ],
)
def test_damage_is_found_and_mended(demo: Path, name: str, damage: Callable[[Path], None]) -> None:
    whole = check(demo, wrong=False)
    assert "nothing is wrong" in whole
    before = (demo / name).read_bytes() if (demo / name).is_file() else None
    damage(demo / name)
    hurt = (demo / name).read_bytes() if (demo / name).is_file() else None
    said = check(demo, wrong=True)
    assert name in said and "1 wrong" in said and "--repair" in said
    assert (demo / name).is_dir() or (demo / name).read_bytes() == hurt  # it only looks
    assert "mended" in check(demo, "--repair", wrong=False)
    kept = (demo / name).with_name(f"{Path(name).name}.damaged-1")
    assert kept.is_dir() or kept.read_bytes() == hurt
    assert "nothing is wrong" in check(demo, wrong=False)
    if name in ("ledger.jsonl", f"{TRIAL}/config.yaml", "study.yaml"):
        assert (demo / name).read_bytes() == before
    assert status(demo)["best"]


def test_what_nothing_proves_is_named_and_left(demo: Path) -> None:
    content = (demo / "ledger.jsonl").read_bytes()
    (demo / "ledger.jsonl").write_bytes(content[:300] + bytes(50) + content[350:])
    said = check(demo, "--repair", wrong=True)
    assert "ledger.jsonl" in said and "nothing here proves" in said
    assert not [*demo.glob("*.damaged-*")]


def test_nothing_is_mended_under_a_driver(demo: Path) -> None:
    emptied(demo / "study.yaml")
    held = Lease.take(demo)
    try:
        words = ("check", "demo", "--runs", demo.parent, "--repair")
        assert "is being run by" in segtune(*words, status=Exit.REFUSED)
    finally:
        held.release()
    assert (demo / "study.yaml").read_bytes() == b""


SECRETS = {
    "SOME_API_TOKEN": "tok-1b9f33aa",
    "SEGTUNE_NOTIFY_WEBHOOK": "https://hooks.slack.com/services/T0/B0/sEcReTpArT",
}


def test_a_bundle_has_logs_and_no_secrets(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    planted = [*SECRETS.values(), "s3cretpass", "qu3ry", "b3arer.abc", "AKIAABCDEFGHIJKLMNOP"]
    log = demo / TRIAL / "log.txt"
    log.write_text(
        f"trained well\n{' '.join(SECRETS.values())}\nhttp://me:s3cretpass@host/x\n"
        "https://host/y?sig=qu3ry\nAuthorization: Bearer b3arer.abc\nAKIAABCDEFGHIJKLMNOP\n"
        "password=s3cretpass 'db_password': 's3cretpass'\n" + "x" * (1 << 20)
    )
    log.write_text(log.read_text() + "\n" + log.read_text()[:400])
    ray = tmp_path / "ray" / "session_2026-01-01_00-00-00_1_1" / "logs"
    ray.mkdir(parents=True)
    (ray / "raylet.out").write_text("raylet began\ntoken: tok-1b9f33aa\n")
    (tmp_path / "segtune-77.log").write_text("slurm said\n")
    said = check(demo, "--bundle", str(tmp_path / "b.tar.gz"), wrong=False)
    assert f"wrote {tmp_path / 'b.tar.gz'}" in said
    out = tmp_path / "unpacked"
    with tarfile.open(tmp_path / "b.tar.gz") as archive:
        archive.extractall(out, filter="data")
    files = [path for path in out.rglob("*") if path.is_file()]
    names = {str(path.relative_to(out / "demo")) for path in files}
    assert {"check.txt", "about.json", "status.json", "ledger.tail.jsonl", "study.yaml"} <= names
    assert {f"{TRIAL}/log.txt", "slurm/segtune-77.log"} <= names
    assert any(name.endswith("raylet.out") for name in names)
    assert not [name for name in names if name.endswith((".png", ".pt", ".parquet"))]
    text = "".join(path.read_text() for path in files)
    assert "trained well" in text and "raylet began" in text and "slurm said" in text
    assert [secret for secret in planted if secret in text] == []
    assert sum(path.stat().st_size for path in files) < 4 << 20
    about = json.loads((out / "demo" / "about.json").read_text())
    assert about["versions"] and about["disks"] and "gpus" in about
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("harmless", ["val/dice: 0.53", "epoch 3 of 9", "s3://bucket/runs/demo"])
def test_what_is_no_secret_stays(harmless: str) -> None:
    assert redacted(harmless) == harmless


@pytest.mark.parametrize("words", [("--repair",), ("--bundle", "x"), ("--submit", "http://x:1")])
def test_options_of_a_study_need_one(words: tuple[str, ...]) -> None:
    assert "needs a study" in segtune("check", *words, status=Exit.REFUSED)

"""`segtune check STUDY --bundle FILE`: what a maintainer needs of a study, and nothing secret.

Text alone: the ledger's last lines, the settings, the trials' logs, Ray's and Slurm's, versions,
disks and GPUs; each from its end, and all of it bounded. No images, weights, scores of cases or
environment. Passwords and tokens are struck out wherever they stand.
"""

import io
import math
import os
import platform
import re
import shutil
import stat
import tarfile
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from search.execution.auth import find_token
from search.execution.environment import code_commit, package_versions
from search.monitor.status import status
from search.report.check_table import Row, table
from search.study.notify.section import Notify
from search.study.notify.targets import targets
from trainer.configfile import ConfigError
from trainer.files.atomic import write_atomically
from trainer.files.damaged import settings_in
from trainer.files.documents import to_json
from trainer.files.regular_files import open_regular
from trainer.gpus import look

LEDGER_BYTES = 1 << 20
"""Of the ledger's end."""
LOG_BYTES = 64 << 10
"""Of the end of each log."""
TOTAL_BYTES = 16 << 20
"""Of all logs together; what comes later is left out."""
STRUCK = "[struck out]"

_SECRET = r"(?:\w*(?:token|secret|passw(?:or)?d|credential|api_?key|access_?key|auth_?key)\w*)"
_PATTERNS = (
    (re.compile(r"(://)[^/\s:@\"']*:[^/\s@\"']+@"), rf"\1{STRUCK}@"),
    (re.compile(r"(https?://[^\s\"'?]+\?)[^\s\"']+"), rf"\1{STRUCK}"),
    (re.compile(r"(?i)(bearer\s+)[\w.~+/=-]+"), rf"\1{STRUCK}"),
    (
        re.compile(rf"(?i)({_SECRET}[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;\"'&}}]+)"),
        rf"\1{STRUCK}",
    ),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), STRUCK),
    (re.compile(r"(?m)^(\s*(?:notify|webhook|heartbeat|command):)(?!\s*$).*$"), rf"\1 {STRUCK}"),
    (re.compile(r"(\"(?:webhook|heartbeat|command)\":\s*)\"(?:[^\"\\]|\\.)*\""), rf'\1"{STRUCK}"'),
)
"""What looks like a secret, and what stands there instead."""
_STRUCK_KEYS = re.compile(rf"(?i){_SECRET}|notify|webhook|heartbeat|command")
"""Of settings."""
_NAMED = re.compile(rf"(?i){_SECRET}|.*(?:notify|webhook|dsn|mlflow_tracking).*")
"""Variables whose values are secrets."""


def write_bundle(folder: Path, out: Path, rows: Sequence[Row]) -> int:
    """Write the archive, whole or not at all, and return its bytes.

    Args:
        folder: The study's.
        out: The new file, a .tar.gz.
        rows: What `check_study` found.

    Raises:
        ConfigError: There is a folder of that name.
        OSError: It cannot be written.
    """
    if out.is_dir():
        raise ConfigError([f"--bundle {out}: is a folder; name the new file"])
    secrets = known_secrets(_notify_of(folder))

    def write(path: Path) -> None:
        with tarfile.open(path, "w:gz") as archive:
            for name, text in _texts(folder, rows):
                content = redacted(text, secrets).encode(errors="backslashreplace")
                about = tarfile.TarInfo(f"{folder.resolve().name}/{name}")
                about.size, about.mtime, about.mode = len(content), int(time.time()), 0o600
                archive.addfile(about, io.BytesIO(content))
        path.chmod(0o600)

    write_atomically(out, write)
    return out.stat().st_size


def redacted(text: str, secrets: Iterable[str] = ()) -> str:
    """Return a text without secrets.

    Args:
        text: Anything.
        secrets: Those that are known, however they look.
    """
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, STRUCK)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def known_secrets(notify: Notify) -> set[str]:
    """Return the secrets that are at hand: Ray's token, the environment's and a study's.

    Args:
        notify: The study's section.
    """
    found = {value for name, value in os.environ.items() if _NAMED.fullmatch(name)}
    found |= {notify.webhook or "", notify.command or "", notify.heartbeat or ""}
    with suppress(ConfigError):
        told = targets(notify)
        found |= {told.webhook, told.command, told.heartbeat}
    with suppress(ConfigError, OSError):
        found.add(find_token() or "")
    return {secret for secret in found if len(secret) >= 6}


def _notify_of(folder: Path) -> Notify:
    """Return who is told by a study's settings; nobody where they cannot be read."""
    try:
        return Notify.model_validate((settings_in(folder / "study.yaml") or {}).get("notify") or {})
    except (ValueError, OSError):
        return Notify()


def _texts(folder: Path, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """Yield what goes into the archive, each text with its name there."""
    yield "check.txt", table(rows, None)
    yield "about.json", to_json(_about(folder))
    try:
        yield "status.json", to_json(status(folder))
    except ValueError as error:  # check.txt says what is wrong with the ledger
        yield "status.txt", f"{error}\n"
    yield "ledger.tail.jsonl", _tail(folder / "ledger.jsonl", LEDGER_BYTES)
    yield "study.yaml", _settings(folder)
    left = TOTAL_BYTES
    for name, path in _logs(folder):
        if left <= 0:
            yield "left_out.txt", f"{name} and what comes after it: more than {TOTAL_BYTES} bytes\n"
            return
        text = _tail(path, min(LOG_BYTES, left))
        left -= len(text)
        yield name, text


def _settings(folder: Path) -> str:
    """Return the settings without secrets, which YAML may fold over lines."""
    try:
        settings = settings_in(folder / "study.yaml")
    except OSError as error:
        return f"{error.filename}: {error.strerror}\n"
    if settings is None:
        return "it cannot be read, so nothing tells its secrets from the rest\n"
    _strike(settings, set())
    return yaml.safe_dump(settings, sort_keys=False, width=math.inf)


def _strike(values: dict[Any, Any] | list[Any], seen: set[int]) -> None:
    """Strike the secrets out of parsed YAML, in which values may lie in themselves."""
    if id(values) in seen:
        return
    seen.add(id(values))
    for key, value in [*(values.items() if isinstance(values, dict) else enumerate(values))]:
        if isinstance(value, dict | list):
            _strike(value, seen)
        elif isinstance(value, str):
            is_secret = isinstance(key, str) and _STRUCK_KEYS.fullmatch(key)
            values[key] = STRUCK if is_secret else redacted(value)


def _about(folder: Path) -> dict[str, Any]:
    disks: dict[str, Any] = {}
    for place in (folder.resolve(), Path(tempfile.gettempdir()), Path.home()):
        try:
            total, _, free = shutil.disk_usage(place)
            disks[str(place)] = {"total_bytes": total, "free_bytes": free}
        except OSError as error:
            disks[str(place)] = {"error": error.strerror}
    gpus = look()
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "commit": code_commit(),
        "versions": package_versions(),
        "gpus": str(gpus),
        "disks": disks,
    }


def _logs(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the logs that there are, the trials' first, the newest of Ray's and Slurm's after."""
    for path in sorted(folder.glob("trials/*/log.txt")):
        if path.parent.resolve().is_relative_to(folder.resolve()):  # others may have put it there
            yield f"trials/{path.parent.name}/log.txt", path
    for path in sorted({*Path().glob("segtune-*.log"), *folder.parent.glob("segtune-*.log")}):
        yield f"slurm/{path.name}", path
    if (head := Path.home() / ".ray" / "segtune.log").is_file():
        yield "ray/segtune.log", head
    for session in _ray_sessions():
        for path in sorted(session.glob("logs/*")):
            if path.suffix in (".log", ".out", ".err", ".txt"):
                yield f"ray/{session.name}/{path.name}", path


def _ray_sessions() -> list[Path]:
    """Return this user's newest folders of Ray's, two at most; a link may be another's."""
    above = {os.environ.get(name, "") for name in ("RAY_TMPDIR", "TMPDIR")} | {"/tmp"}
    patterns = ("ray/session_2*", "segtune-*/ray/session_2*", "segtune-*/session_2*")
    places = {Path(each).resolve() for each in above if each}
    own = {
        path
        for place in places
        for each in patterns
        for path in place.glob(each)
        if all(
            _is_own_folder(at) for at in (path / "logs", path, *path.parents) if place in at.parents
        )
    }
    return sorted(own, key=lambda path: path.lstat().st_mtime)[-2:]


def _is_own_folder(path: Path) -> bool:
    try:
        about = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()


def _tail(path: Path, limit: int) -> str:
    """Return the end of a file, or why there is none."""
    try:
        with open_regular(path, follow=False) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            text = file.read(limit).decode(errors="backslashreplace")
    except OSError as error:
        return f"{path}: {error.strerror}\n"
    if size <= limit:
        return text
    return f"[{size - limit} bytes before this are left out]\n" + text.partition("\n")[2]

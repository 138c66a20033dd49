"""What people ask of a study that somebody runs: files in its folder, which its driver takes up.

    requests/1764301000123456-1f2e…json   search/ledger/hand.py says what is in it

Only a driver writes the ledger. So what a person wants while one lives is left here, whole or not
at all, and becomes an event by the hand of the driver, under the name of the file; after that the
file goes. One whose name the ledger has was taken up by a driver that was killed before it could
delete it. What no driver took up is taken up by the next one.

Where a study lies in S3 a request is an object of that name (storage/s3_ledger.py).
"""

import errno
import os
import re
import time
import uuid
from collections.abc import Callable, Container
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from search.ledger.hand import Request, ended_by_hand, requested_events, what_of
from search.ledger.journal import Event, Ledger
from search.ledger.session import StudySession
from search.ledger.users import user_name
from search.storage.modes import modes_of
from search.storage.s3 import remote_of
from search.storage.settings_file import write_settings
from search.study.config import StudyConfig
from trainer.configfile import ConfigError
from trainer.files.atomic import write_atomically
from trainer.files.documents import from_json, to_json
from trainer.files.regular_files import open_regular
from trainer.terminal import one_line

FOLDER = "requests"
MAX_BYTES = 1 << 18
"""Of a request; that of other settings has the whole study in it."""
ANSWER_S = 3.0
"""In which a driver answers that is not busy; it looks twice a second."""
AT_A_TIME = 100
"""Requests taken up at once, so that a flood of them does not stop a driver."""
NEVER_READ = {errno.EINVAL, errno.EISDIR, errno.EACCES, errno.EPERM}
"""Faults of a link, a pipe or a folder, and of another one's file; all others may pass, as those of
file servers do."""

_NAME = re.compile(r"\d{16}-[0-9a-f]{32}")


def new_name() -> str:
    """Return the name of a request: later ones sort after earlier ones."""
    return f"{time.time_ns() // 1000:016d}-{uuid.uuid4().hex}"


def leave(folder: Path, request: Request) -> str:
    """Leave a request where a study's driver finds it, and return its name.

    Raises:
        OSError: The folder cannot be written, or S3 does not answer.
    """
    name, text = new_name(), to_json({**request, "by": user_name()})
    if remote := remote_of(folder):
        remote.put(f"{FOLDER}/{name}.json", text.encode())
    else:
        path = folder / FOLDER / f"{name}.json"
        with modes_of(folder):
            path.parent.mkdir(exist_ok=True)
            write_atomically(path, lambda temporary: temporary.write_text(text))
    return name


def ask_driver(folder: Path, request: Request) -> None:
    """Leave a request, and look for some seconds whether the driver declines it.

    Where the study lies in S3 an answer takes longer, and `status` shows it.

    Raises:
        ConfigError: The driver declines it, and why.
        OSError: The folder cannot be written, or S3 does not answer.
    """
    ledger = Ledger.open(folder / "ledger.jsonl", writer=False)
    name = leave(folder, request)
    end_s = time.monotonic() + (0 if remote_of(folder) else ANSWER_S)
    while time.monotonic() < end_s:
        time.sleep(0.1)
        new = ledger.read_on()
        if new is None:  # the ledger is another file now
            return
        for event in new:
            if event.get("request") == name:
                if event["event"] == "declined":
                    raise ConfigError([one_line(event["reason"])])
                return


def waiting(folder: Path) -> list[str]:
    """Return the names of the requests that lie there, oldest first; none where S3 is away."""
    try:
        remote = remote_of(folder)
        found = [entry.key for entry in remote.entries(FOLDER)] if remote else []
    except OSError:
        return []
    return names_in([Path(key).name for key in found]) if remote else waiting_here(folder)


def take_up(
    session: StudySession, *, fits: Callable[[StudyConfig], str] = lambda study: ""
) -> None:
    """Make events of what people asked for. A request that cannot be is one, too: `declined`.

    Args:
        session: The study, as its driver has it.
        fits: As for `requested_events`.

    Raises:
        OSError: The ledger cannot be written.
    """
    here = waiting_here(session.folder)
    new = [name for name in here if name not in session.state.requests]
    for name in new[:AT_A_TIME]:
        if events := _events(session, session.folder / FOLDER / f"{name}.json", fits):
            session.record(*events)
            if events[0]["event"] == "study":
                write = partial(write_settings, session.folder, events[0]["config"])
                session.patiently(write, session.folder / "study.yaml")
    for name in here:
        if name in session.state.requests:
            with suppress(OSError):
                (session.folder / FOLDER / f"{name}.json").unlink()


def end_by_hand(session: StudySession, with_attempt: Container[int] = ()) -> None:
    """End the trials that people want to end, those that have an attempt at their checkpoint.

    Args:
        session: The study.
        with_attempt: Trials of which one lives or is about to start.

    Raises:
        OSError: The ledger or a trial's folder cannot be written.
    """
    for trial in [t for t in session.state.live() if t.stop_asked]:
        if trial.number not in with_attempt:
            session.record(ended_by_hand(trial))
        elif not session.asked_to_stop(session.trial_dir(trial.number)):
            session.ask_to_stop(trial.number)


def _events(session: StudySession, path: Path, fits: Callable[[StudyConfig], str]) -> list[Event]:
    request: dict[str, Any] = {}
    by = ""
    try:
        request, owner = _read(path)
        # In S3 a request says itself whose it is; here its file does.
        by = one_line(request.get("by", "")) if remote_of(session.folder) else owner
        now = session.study, session.state
        return requested_events(*now, request, path.stem, by=by, fits=fits)
    except Exception as error:  # whatever somebody has put there
        if isinstance(error, OSError) and error.errno not in NEVER_READ:
            return []
        about = {"request": path.stem, "what": what_of(request) if request else path.name}
        about["by"] = by
        reason = one_line("; ".join(str(error).splitlines()) or type(error).__name__)
        return [{"event": "declined", **about, "reason": reason}]


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """Return a request and its owner: a small file that others wrote, leading nowhere else.

    Raises:
        ValueError: It is none.
        OSError: It cannot be read.
    """
    with open_regular(path, follow=False) as stream:
        content, owner = stream.read(MAX_BYTES + 1), user_name(os.fstat(stream.fileno()).st_uid)
    if len(content) > MAX_BYTES:
        raise ValueError(f"has more than {MAX_BYTES} bytes")
    return from_json(content), owner


def waiting_here(folder: Path) -> list[str]:
    """Return the names of the requests that lie in a folder or a mirror, oldest first."""
    try:
        return names_in(os.listdir(folder / FOLDER))
    except OSError:
        return []


def names_in(files: list[str]) -> list[str]:
    """Return the names of requests among files, oldest first; all else is none."""
    stems = [name.removesuffix(".json") for name in files if name.endswith(".json")]
    return sorted(stem for stem in stems if _NAME.fullmatch(stem))

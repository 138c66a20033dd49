"""Threads that tell others what happens in a study; whatever fails there delays nobody."""

import json
import os
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from search.notify.messages import Message, request
from search.report.text import as_printed
from search.storage.outbox import pauses
from search.study.notify.masks import masked_address, masked_command, without_words_of
from search.study.notify.targets import Targets
from trainer.training.stop_signals import Ended, ending_signals

ANSWER_S = 10.0
"""For an answer of a webhook or a heartbeat's address."""
COMMAND_S = 60.0
"""Seconds that a command may take."""
TRIES = 3
RETRY_S = (2.0, 20.0)
"""First and longest pause between two tries."""
BEST_EVERY_S = 600.0
"""Between two messages about a new best: early in a study there are many."""
MAX_WAITING = 50
"""Messages that wait; of more the oldest are not told."""


class Failed(Exception):
    """Somebody was not told; the text has no secrets."""


class Messenger:
    """Tells a webhook and a command, from a thread.

    Args:
        targets: Who is told.
        say: Is told of the first failure of each.
    """

    def __init__(self, targets: Targets, say: Callable[[str], None]):
        self._targets = targets
        self._say = say
        self._waiting = deque[Message](maxlen=MAX_WAITING)
        self._best: Message | None = None
        self._next_best_s = 0.0
        self._failing: set[str] = set()
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="notify", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def tell(self, told: Message) -> None:
        """Tell somebody soon; of several new bests the newest."""
        with self._changed:
            if told.event == "best":
                self._best = told
            else:
                self._waiting.append(told)
            self._changed.notify()

    def close(self, limit_s: float) -> None:
        """Tell what is left, for at most so many seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        with suppress(Ended), ending_signals(str):
            self._thread.join(limit_s)

    def _next(self) -> Message | None:
        """Wait for the next message; None when there is none any more."""
        with self._changed:
            while True:
                if self._waiting:
                    return self._waiting.popleft()
                if self._closing:  # a best is in the message about the end
                    return None
                rest_s = self._next_best_s - time.monotonic() if self._best else None
                if rest_s is not None and rest_s <= 0:
                    told, self._best = self._best, None
                    self._next_best_s = time.monotonic() + BEST_EVERY_S
                    return told
                self._changed.wait(rest_s)

    def _run(self) -> None:
        while told := self._next():
            if address := self._targets.webhook:
                self._try("webhook", masked_address(address), partial(self._post, told))
            if command := self._targets.command:
                self._try("command", masked_command(command), partial(self._call, told))

    def _try(self, name: str, shown: str, tell: Callable[[], None]) -> None:
        waits = pauses(*RETRY_S)
        for left in reversed(range(TRIES if name == "webhook" else 1)):
            try:
                tell()
            except Failed as error:
                if left:
                    with self._changed:
                        self._changed.wait_for(lambda: self._closing, next(waits))
                    continue
                if name not in self._failing:
                    self._say(f"notify.{name}: {shown}: {error}: nobody was told")
                self._failing.add(name)
            else:
                self._failing.discard(name)
                return

    def _post(self, told: Message) -> None:
        address, content = request(self._targets.webhook, self._targets.format, told)
        ask("POST", address, json=content)

    def _call(self, told: Message) -> None:
        command, document = self._targets.command, told.document()
        variables = {
            f"SEGTUNE_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
            for name, value in document.items()
        }
        try:
            process = subprocess.Popen(
                shlex.split(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=os.environ | variables,
                start_new_session=True,
            )
        except OSError as error:
            raise Failed(error.strerror or "cannot be run") from None
        try:
            _, said = process.communicate(json.dumps(document).encode(), COMMAND_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            # Not communicate: a child in a session of its own may hold stderr open for ever.
            process.wait()
            for pipe in (process.stdin, process.stderr):
                assert pipe
                with suppress(OSError):
                    pipe.close()
            raise Failed(f"took more than {COMMAND_S:.0f} s") from None
        if process.returncode:
            lines = as_printed(said.decode(errors="replace")).strip().splitlines()
            last = f": {without_words_of(command, lines[-1])[:200]}" if lines else ""
            raise Failed(f"ended with status {process.returncode}{last}")


def ask(method: str, address: str, **content: Any) -> None:
    """Send a request.

    Raises:
        Failed: It was not answered with success. A POST is not sent elsewhere: it would become a
            GET there.
    """
    import requests

    try:
        with requests.request(
            method,
            address,
            timeout=ANSWER_S,
            allow_redirects=method == "GET",
            stream=True,
            **content,
        ) as answer:
            status = answer.status_code
    except requests.Timeout:
        raise Failed(f"does not answer within {ANSWER_S:.0f} s") from None
    except requests.exceptions.SSLError:
        raise Failed("its certificate is not trusted") from None
    except (requests.RequestException, ValueError, OSError):  # whose texts have the address
        raise Failed("does not answer") from None
    if not 200 <= status < 300:
        raise Failed(f"answers with status {status}")


class Heartbeat:
    """Asks for an address now and then while trials make progress, from a thread.

    Progress is a report, or a sign of life that is newer than the last one that was seen: what a
    trial gives between two optimizer steps. A process that hangs gives none.

    Args:
        address: Whom to ask.
        run_dir: Returns a trial's folder.
        say: Is told of the first failure.
    """

    PERIOD_S = 60.0
    LOOK_S = 5.0

    def __init__(self, address: str, run_dir: Callable[[int], Path], say: Callable[[str], None]):
        self._address = address
        self._run_dir = run_dir
        self._say = say
        self._running: frozenset[int] = frozenset()
        self._seen: dict[int, int] = {}
        self._failing = False
        self._progress = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def begun(self, trial: int) -> None:
        self._running |= {trial}

    def over(self, trial: int) -> None:
        self._running -= {trial}

    def reported(self) -> None:
        self._progress.set()

    def close(self) -> None:
        self._closing.set()

    def _run(self) -> None:
        next_s = 0.0
        while not self._closing.wait(self.LOOK_S):
            self._look()
            if self._progress.is_set() and time.monotonic() >= next_s:
                self._progress.clear()
                next_s = time.monotonic() + self.PERIOD_S
                self._beat()

    def _look(self) -> None:
        before, self._seen = self._seen, {}
        for trial in self._running:
            with suppress(OSError):
                self._seen[trial] = (self._run_dir(trial) / "alive").stat().st_mtime_ns
        if any(before.get(trial, sign) != sign for trial, sign in self._seen.items()):
            self._progress.set()

    def _beat(self) -> None:
        try:
            ask("GET", self._address)
        except Failed as error:
            if not self._failing:
                self._say(f"notify.heartbeat: {masked_address(self._address)}: {error}")
            self._failing = True
        else:
            self._failing = False

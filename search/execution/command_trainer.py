"""A program as a trainer: its lines on stdout are validations, its output is the trial's log.

The program runs without a shell, in a process group of its own, and never longer than the process
that runs this: see program_keeper.py. docs/own_trainer.md is the contract.
"""

import codecs
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from search.execution import program_keeper
from search.study.own_trainer import OwnTrainer
from trainer.configfile import flatten, nest
from trainer.files.atomic import write_atomically
from trainer.terminal import printable

TERM_S = 30.0
"""After SIGTERM a program has so long until SIGKILL; and one whose last epoch is reported has so
long to end by itself before SIGTERM."""
POLL_S = 0.5
"""Between two looks for the sign to stop."""
LINE_BYTES = 16 << 20
"""Of one line; a longer one is no validation."""
SAID = 500
"""Characters of its last line that a reason has."""
CONFIG = "config.yaml"
LOCK = ".program"
READ = ".program.read"
"""What was read of its stdout and is perhaps not recorded: read again if this process is killed."""


def trial_words(trainer: OwnTrainer, spec: Mapping[str, Any]) -> list[str]:
    """Return the words of the command with which a trial's program is started.

    Args:
        trainer: With a command.
        spec: A `tuning.searcher.TrialSpec`, or what of it is named here.
    """
    settings, run_dir = spec["train"], Path(spec["run_dir"])
    data = settings.get("data", {}) if spec["has_data"] else {}
    values = {
        "python": sys.executable,
        "config": run_dir / CONFIG,
        "run_dir": run_dir,
        "epochs": settings["epochs"],
        "seed": settings["seed"],
        "trial": spec["trial"],
        "cpus": f"{spec['cpus']:g}",
        "gpus": f"{spec['gpus']:g}",
        "store": data.get("store", ""),
        "fold": data.get("fold", ""),
    }
    of_the_study = {"epochs", "seed", *(("data.store", "data.fold") if spec["has_data"] else ())}
    flat = flatten(settings)
    return trainer.words(values, nest({k: v for k, v in flat.items() if k not in of_the_study}))


def program_lines(
    trainer: OwnTrainer,
    spec: Mapping[str, Any],
    is_done: Callable[[], bool],
    late: Callable[[Mapping[str, Any]], None],
) -> Generator[list[Mapping[str, Any]], None, None]:
    """Run a trial's program, and yield the lines on its stdout that are JSON objects.

    Args:
        trainer: With a command.
        spec: A `tuning.searcher.TrialSpec`.
        is_done: Returns whether its last epoch is reported, so that it may end by itself.
        late: Is given what the program says when nobody asks for it any more.

    Yields:
        The objects that came together.

    Raises:
        RuntimeError: The program ended with another status than 0, and not because it was asked to.
        OSError: The run folder cannot be written.
    """
    run_dir = Path(spec["run_dir"])
    run_dir.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(spec["train"], sort_keys=False)
    write_atomically(run_dir / CONFIG, lambda temporary: temporary.write_text(text))
    program = Program(trial_words(trainer, spec), Path(trainer.folder or "."), run_dir)
    try:
        for lines in program.lines():
            yield [values for line in lines for values in _objects(line)]
        if program.status and not (program.asked or is_done()):
            how = f"ended with status {program.status}"
            if program.status < 0:
                how = f"was ended by {_signal_name(-program.status)}"
            raise RuntimeError(f"{trainer.name} {how}{program.said}")
    finally:
        for line in program.end(TERM_S if is_done() else 0.0):
            for values in _objects(line):
                late(values)


class Program:
    """A running program and its output.

    Args:
        words: The program and its words.
        folder: Where it runs.
        run_dir: Where `alive` is touched while it prints, and `stop` looked for.

    Attributes:
        status: Its exit status, negative for a signal; None while it runs.
        asked: Whether it was asked to end.
    """

    def __init__(self, words: Sequence[str], folder: Path, run_dir: Path):
        if not folder.is_dir():
            raise NotADirectoryError(f"trainer.folder: {folder}: no such folder on this node")
        self.status: int | None = None
        self.asked = False
        self._run_dir = run_dir
        self._read_file = (run_dir / READ).open("a+b", buffering=0)
        self._read_file.seek(0)
        *lines, rest = self._read_file.read().split(b"\n")
        self._lines: list[bytes] = lines
        self._rest: bytes = rest
        self._decoders = {
            name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")
        }
        self._last = {"stdout": "", "stderr": ""}
        self._tail = {"stdout": "", "stderr": ""}
        status, status_in_keeper = os.pipe()
        keeper = Path(program_keeper.__file__)
        output, output_in_program = os.pipe()
        errors, errors_in_program = os.pipe()
        kept = [status_in_keeper, output, errors]
        about = [str(TERM_S), *map(str, kept), str(run_dir / LOCK), str(folder)]
        self._keeper = subprocess.Popen(
            [sys.executable, "-I", "-S", str(keeper), *about, *words],
            stdin=subprocess.PIPE,
            stdout=output_in_program,
            stderr=errors_in_program,
            pass_fds=kept,
            # Else Python keeps lines back until a pipe's buffer is full.
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        os.close(status_in_keeper)
        os.close(output_in_program)
        os.close(errors_in_program)
        self._keeper.wait()  # it goes on as another process
        self._output, self._errors = os.fdopen(output, "rb"), os.fdopen(errors, "rb")
        self._status = status
        self._selector = selectors.DefaultSelector()
        streams = {"stdout": self._output, "stderr": self._errors}
        for name, stream in streams.items():
            self._selector.register(stream, selectors.EVENT_READ, name)
        self._selector.register(status, selectors.EVENT_READ, "status")

    @property
    def said(self) -> str:
        """Its last words: the last line on stderr, else on stdout where that is no validation."""
        line = self._last["stderr"] or self._last["stdout"]
        if _objects(line.encode()):
            line = ""
        return f": {line}" if line else ""

    def lines(self) -> Iterator[list[bytes]]:
        """Yield its lines on stdout as they come; all that it prints is printed here too.

        Whoever asks for more has recorded what came before.
        """
        while self.status is None:
            if not self.asked and (self._run_dir / "stop").exists():
                self._ask()
            self._read(POLL_S)
            if self._lines:
                yield self._take()
            self._forget()
        yield [*self._take(), self._rest]
        self._rest = b""

    def end(self, patience_s: float = 0.0) -> list[bytes]:
        """End it, if it has not ended; return what it said since, when all of it is gone.

        Args:
            patience_s: In which it may end by itself.
        """
        until_s = time.monotonic() + patience_s
        while self.status is None and time.monotonic() < until_s:
            self._read(POLL_S)
        self._ask()
        until_s = time.monotonic() + 2 * TERM_S
        while self._status >= 0 and time.monotonic() < until_s:
            self._read(POLL_S)
        self._output.close()
        self._errors.close()
        self._read_file.close()
        self._selector.close()
        return [*self._take(), self._rest]

    def _forget(self) -> None:
        """Empty READ between two lines; within one, which must not be lost, only if it is large."""
        if self._read_file.tell() > (LINE_BYTES if self._rest else 0):
            self._read_file.seek(0)
            self._read_file.truncate()
            self._read_file.write(self._rest)

    def _take(self) -> list[bytes]:
        lines, self._lines = self._lines, []
        return lines

    def _ask(self) -> None:
        """Say so on the pipe, and close it: the keeper does the rest."""
        self.asked = self.asked or self.status is None
        pipe = self._keeper.stdin
        assert pipe
        with suppress(BrokenPipeError):
            if not pipe.closed:
                pipe.write(b"q")
            pipe.close()

    def _read(self, wait_s: float) -> None:
        """Pass on what there is, and keep the lines of what came on stdout."""
        ready = self._selector.select(wait_s)
        # How it ended comes after what it said.
        for key, _ in sorted(ready, key=lambda each: each[0].data == "status"):
            if key.data == "status":
                self._take_status(len(ready) > 1)
                continue
            chunk = os.read(key.fd, 1 << 16)
            if not chunk:
                self._selector.unregister(key.fileobj)
                continue
            with suppress(OSError):
                (self._run_dir / "alive").touch()
            with suppress(OSError):
                if key.data == "stdout":
                    self._read_file.write(chunk)
            shown = sys.stdout if key.data == "stdout" else sys.stderr
            shown.write(text := self._decoders[key.data].decode(chunk))
            shown.flush()
            self._note(key.data, text)
            if key.data == "stdout":
                *whole, rest = (self._rest + chunk).split(b"\n")
                self._lines.extend(whole)
                # A progress bar has no newlines, and only its last version can be a validation.
                self._rest = (rest[:-1].rpartition(b"\r")[2] + rest[-1:])[-LINE_BYTES:]

    def _take_status(self, more: bool) -> None:
        """Take in how it ended, unless it has said more than was read so far."""
        if more and self.status is None:
            return
        words = os.read(self._status, 64).split()
        if words:
            self.status = int(words[0])
        else:
            self._selector.unregister(self._status)
            os.close(self._status)
            self._status = -1
            if self.status is None:
                self.status = -9  # its keeper was killed, and all with it

    def _note(self, name: str, text: str) -> None:
        lines = re.split(r"[\r\n]+", self._tail[name] + text)
        self._tail[name] = lines[-1][-SAID:]
        for line in lines:
            if line := printable(line).strip():
                self._last[name] = line[:SAID]


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _objects(line: bytes) -> list[Mapping[str, Any]]:
    """Return the JSON objects that a line is.

    Several, where a process was interrupted between a line and its newline: unbuffered, Python
    writes them one after the other, and a signal's handler or another rank speaks in between.
    """
    line = line.rstrip().rpartition(b"\r")[2].strip()  # after a progress bar, which has no newline
    found: list[Mapping[str, Any]] = []
    try:
        text = line.decode()
        while text:
            if not text.startswith("{"):
                return []
            values, end = json.JSONDecoder().raw_decode(text)
            found.append(values)
            text = text[end:].lstrip()
    except (ValueError, RecursionError):
        return []
    return found

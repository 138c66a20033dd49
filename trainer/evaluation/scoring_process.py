"""Scoring beside the training: a process that is kept, without CUDA, and is sent probabilities.

It is started anew, not forked: a fork would share CUDA's state and the locks of other threads. A
thread would compete with the training for the interpreter.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

import segtune_start
from trainer.data.store import Case, Store
from trainer.evaluation.metrics import CaseScore
from trainer.evaluation.scoring import score_cases
from trainer.exceptions import StoreError
from trainer.training.stop_signals import STOPS

GRACE_S = 10.0
"""In which a process that hung up has ended by itself."""


class ScoringProcess:
    """Scores one validation at a time, at one threshold.

    Args:
        store: Where the cases are.
        cases: Which.
        threshold: Probability from which a voxel is predicted as lesion.
    """

    def __init__(self, store: Store, cases: Sequence[Case], threshold: float):
        self._connection, theirs = Pipe()
        without_cuda = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            segtune_start.command(__name__, str(theirs.fileno())),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | segtune_start.environment() | without_cuda,
        )
        theirs.close()
        self._send((str(store.path), [case.case_id for case in cases], threshold))

    def begin(self, probability: NDArray[np.float32]) -> None:
        """Send what is to be scored, (n, H, W) as for `score_cases`; once it is there, go on.

        Raises:
            RuntimeError: The process has ended.
        """
        self._send(probability)

    def ready(self) -> bool:
        """Say whether `scores` would return at once."""
        return self._connection.poll()

    def scores(self) -> list[CaseScore]:
        """Return the scores of what was begun, as soon as they are there.

        Raises:
            RuntimeError: Scoring failed, or the process has ended.
            MemoryError: The host's memory is too small for it.
            StoreError: The store is missing or damaged.
            OSError: It cannot be read.
        """
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if isinstance(answer, Exception):
            raise answer
        scores: list[CaseScore] = answer
        return scores

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _send(self, message: object) -> None:
        try:
            self._connection.send_bytes(pickle.dumps(message, protocol=5))
        except ConnectionError as error:
            raise self._ended() from error

    def _ended(self) -> RuntimeError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self._process.kill()  # does nothing to what has ended
        status = self._process.wait()
        return RuntimeError(f"the process that scores validations ended with status {status}")


def main() -> None:
    """Score what comes, until nobody is there to send it."""
    # Ctrl-C, and what ends a whole process group, is for the parent, which closes this.
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    connection = Connection(int(sys.argv[1]))
    try:
        path, case_ids, threshold = connection.recv()
        while True:
            connection.send(_answer(path, case_ids, threshold, connection.recv()))
    except (EOFError, ConnectionError):
        return


def _answer(
    path: str, case_ids: Sequence[str], threshold: float, probability: NDArray[np.float32]
) -> list[CaseScore] | Exception:
    """Score, or return what the parent is to raise."""
    try:
        store = Store.open(path)
        by_id = {case.case_id: case for case in store.cases}
        cases = [by_id[case_id] for case_id in case_ids]
        return score_cases(store, cases, probability, [threshold] * len(cases))
    except (OSError, StoreError) as error:
        return error
    except MemoryError as error:
        return MemoryError(f"scoring: {error}")
    except Exception as error:
        return RuntimeError(f"scoring: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()

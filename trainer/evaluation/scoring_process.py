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
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import numpy as np
from numpy.typing import NDArray

from trainer.data.store import Case, Store
from trainer.evaluation.metrics import CaseScore
from trainer.evaluation.scoring import score_cases

GRACE_S = 10.0
"""In which a process that hung up has ended."""


class ScoringProcess:
    """Scores one validation at a time, at one threshold.

    Args:
        store: Where the cases are.
        cases: Which.
        threshold: Probability from which a voxel is predicted as lesion.
    """

    def __init__(self, store: Store, cases: Sequence[Case], threshold: float):
        self._connection, theirs = Pipe()
        environment = {"PYTHONPATH": os.pathsep.join(sys.path), "CUDA_VISIBLE_DEVICES": ""}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=os.environ | environment | {"OMP_NUM_THREADS": "1"},
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
            OSError: The store cannot be read.
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
        status = self._process.wait(GRACE_S)
        return RuntimeError(f"the process that scores validations ended with status {status}")


def main() -> None:
    """Score what comes, until nobody is there to send it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which closes this
    connection = Connection(int(sys.argv[1]))
    try:
        path, case_ids, threshold = connection.recv()
        store = Store.open(path)
        by_id = {case.case_id: case for case in store.cases}
        cases = [by_id[case_id] for case_id in case_ids]
        while True:
            probability = connection.recv()
            answer: list[CaseScore] | Exception
            try:
                answer = score_cases(store, cases, probability, [threshold] * len(cases))
            except OSError as error:
                answer = error
            except Exception as error:
                answer = RuntimeError(f"scoring: {type(error).__name__}: {error}")
            connection.send(answer)
    except (EOFError, ConnectionError):
        return


if __name__ == "__main__":
    main()

"""Processes that prepare cases end with the one that began them."""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from threading import Thread

import pytest

from tests.trainer.data import trees
from trainer.data.case_file import CaseSettings
from trainer.data.formats import find_cases
from trainer.data.making import processes
from trainer.data.making.case_workers import prepared


def test_a_signal_while_cases_are_submitted_prepares_none_of_the_others(tmp_path, monkeypatch):
    cases = find_cases(trees.isles24(tmp_path / "data", 12))[1].cases
    submit = ProcessPoolExecutor.submit

    def interrupted(pool, function, case, *rest):
        if case is cases[-1]:
            os.kill(os.getpid(), signal.SIGINT)
        return submit(pool, function, case, *rest)

    monkeypatch.setattr(ProcessPoolExecutor, "submit", interrupted)
    prints = {case.case_id: "" for case in cases}
    jobs = prepared(cases, tmp_path, CaseSettings(image_size=16), prints, 2)
    with pytest.raises(KeyboardInterrupt), closing(jobs):
        next(jobs)

    end_s = time.monotonic() + 60  # they were killed, and the pool's own thread says so
    while multiprocessing.active_children() and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not multiprocessing.active_children()
    assert not [*tmp_path.glob("*.arrow")]


def test_a_signal_that_another_thread_takes_late_ends_them_too(tmp_path, monkeypatch):
    """Nothing wakes the thread that waits then: CI met it once in a thousand runs."""
    cases = find_cases(trees.isles24(tmp_path / "data", 4))[1].cases
    monkeypatch.setattr(processes, "wait", later(processes.wait))
    prints = {case.case_id: "" for case in cases}
    jobs = prepared(cases, tmp_path, CaseSettings(image_size=16), prints, 2)
    with pytest.raises(KeyboardInterrupt), closing(jobs):
        next(jobs)
    assert not [*tmp_path.glob("*.arrow")]


def later(wait):
    """Return `wait`, whose first call has another thread take a SIGINT 50 ms after it begins."""

    def waiting(*args, **kwargs):
        if not threads:
            threads.append(Thread(target=take))
            threads[0].start()
        return wait(*args, **kwargs)

    def take():
        time.sleep(0.05)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    threads = []
    return waiting

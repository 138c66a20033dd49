"""What a driver says at the end of its trials."""

import time
from functools import partial
from types import SimpleNamespace

import pytest
import ray

from search.ledger.waiting import Wait
from search.tuning.driver_callback import DriverCallback


@ray.remote(num_cpus=0)
def _slow() -> dict[str, object]:
    time.sleep(1)
    return {}


def test_what_is_computed_beside_the_trials_is_waited_for_aloud(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, nothing = list[str](), SimpleNamespace(finish=lambda: None)
    monkeypatch.setattr(DriverCallback, "poll", lambda callback: None)
    monkeypatch.setattr("search.tuning.driver_callback.Wait", partial(Wait, after_s=0))
    callback = DriverCallback.__new__(DriverCallback)
    callback._beside = {"threshold": _slow.remote(), "masks nnU-Net": _slow.remote()}
    callback._told_to_stop, callback._shares = False, None
    callback._image_worker = callback._keeper = nothing
    callback._progress = SimpleNamespace(print_line=said.append)
    callback.finish()
    what = "the best threshold, the score of the masks nnU-Net"
    assert said[0] == f"waits: for what is computed beside the trials: {what}"

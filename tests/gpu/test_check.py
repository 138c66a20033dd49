"""`segtune check` finds nothing wrong with a card that passes the other tests."""

import pytest
import torch

from search.workflows.check import installation as check
from search.workflows.check.gpu import build_rows, look

pytestmark = pytest.mark.gpu


def test_torch_and_driver_fit_together(device):
    rows = build_rows(look())
    assert not [row for row in rows if row.state == "wrong"], rows
    if device.type == "cuda":
        assert {"torch", "GPUs"} <= {row.what for row in rows}


@pytest.mark.parametrize("what", ["step_rows", "fast_rows", "limit_rows", "exchange_rows"])
def test_rows_of_the_device(what, device):
    pytest.importorskip("nibabel")  # prepare imports it
    pytest.importorskip("matplotlib")  # and draws with it
    rows = [*getattr(check, what)(device)]
    assert not [row for row in rows if row.state == "wrong"], rows
    expected = {
        "step_rows": ["step in fp32", "step in bf16"],
        "fast_rows": ["norm kernel", "graph"],
        "limit_rows": ["memory limit"],
    }
    if device.type == "cuda" and what in expected:
        assert [row.what for row in rows] == expected[what]


def test_a_gpu_is_more_than_one_thread():
    pytest.importorskip("nibabel")
    pytest.importorskip("matplotlib")
    row = check.speed_row(torch.device("cuda", 0))
    assert float(row.found.split(": ")[1].split()[0]) > 30, row

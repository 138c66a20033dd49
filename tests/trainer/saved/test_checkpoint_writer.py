"""Checkpoints that a thread writes: what was, when it was, and what kept it from being written."""

import errno
import threading
from pathlib import Path

import pytest
import torch

from trainer.exceptions import Replaced
from trainer.saved import checkpoint
from trainer.saved.checkpoint_writer import CheckpointWriter, host_copy

NOT_THE_CPU = torch.device("meta")
"""A device that the thread is for; the tensors are the test's."""


def test_a_checkpoint_holds_what_the_state_was(tmp_path: Path) -> None:
    weights = torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last)
    state = {"model": {"w": weights}, "groups": [{"lr": 0.1, "betas": (0.9, 0.99)}], "images": 8}
    expected = weights.clone()
    with CheckpointWriter(NOT_THE_CPU) as writer:
        writer.save(tmp_path, 8, state)
        weights += 1
        state["model"]["new"] = weights
        writer.save(tmp_path, 16, {"model": {"w": weights}})
    saved = checkpoint.read(tmp_path / "000000000008.pt")
    assert torch.equal(saved["model"].pop("w"), expected)
    assert saved == state | {"model": {}}
    assert torch.equal(checkpoint.read(tmp_path / "000000000016.pt")["model"]["w"], weights)


def test_the_copy_has_the_layout_and_shares_nothing() -> None:
    weights = torch.randn(4, 3, 5, 5, requires_grad=True).to(memory_format=torch.channels_last)
    module = torch.nn.BatchNorm1d(2).state_dict()
    copy = host_copy({"w": weights, "t": (weights, [weights]), "m": module}, NOT_THE_CPU)
    assert copy["m"].keys() == module.keys() and copy["m"]._metadata == module._metadata
    for own in (copy["w"], copy["t"][0], copy["t"][1][0]):
        assert torch.equal(own, weights) and own.stride() == weights.stride()
        assert not own.requires_grad and own.data_ptr() != weights.data_ptr()


def test_a_full_disk_is_told_once_to_whoever_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    state = {"w": torch.ones(3)}
    with monkeypatch.context() as patch, CheckpointWriter(NOT_THE_CPU) as writer:
        patch.setattr(checkpoint, "write", full)
        for wait in (writer.wait, lambda: writer.save(tmp_path, 2, state)):
            writer.save(tmp_path, 1, state)
            with pytest.raises(OSError, match="No space left") as raised:
                wait()
            assert raised.value.errno == errno.ENOSPC
        writer.wait()
    for other in (None, KeyError("first")):
        with (
            monkeypatch.context() as patch,
            pytest.raises(KeyError if other else OSError),
            CheckpointWriter(NOT_THE_CPU) as writer,
        ):
            patch.setattr(checkpoint, "write", full)
            writer.save(tmp_path, 1, state)
            if other:
                raise other
    assert not [*tmp_path.glob("*.pt")]


@pytest.mark.parametrize("device", [NOT_THE_CPU, torch.device("cpu")])
def test_who_no_longer_owns_the_folder_writes_and_removes_nothing(
    tmp_path: Path, device: torch.device
) -> None:
    owner = threading.get_ident()
    asked = []

    def check() -> None:
        asked.append(threading.get_ident())
        if len(asked) > 3:
            raise Replaced("another process trains this run now")

    state = {"w": torch.ones(3)}
    with pytest.raises(Replaced), CheckpointWriter(device, check) as writer:
        for images in (1, 2, 3, 4):
            writer.save(tmp_path, images, state)
    assert sorted(path.stem[-1] for path in tmp_path.glob("*.pt")) == ["2", "3"]
    assert (owner in asked) is (device.type == "cpu")  # as late as can be: where it is written


def test_on_the_cpu_it_is_there_when_save_returns(tmp_path: Path) -> None:
    with CheckpointWriter(torch.device("cpu")) as writer:
        writer.save(tmp_path, 8, {"w": torch.ones(3)})
        assert (tmp_path / "000000000008.pt").exists()

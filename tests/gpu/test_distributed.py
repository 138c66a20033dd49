"""Several processes, each with a GPU of its own: NCCL."""

import pytest
import torch
import torch.distributed as dist

from search.workflows.check.step import exchange_bytes_per_s
from trainer.training.distributed import first_says, from_first, gather, group

pytestmark = pytest.mark.gpu


def test_a_group_of_one_process(device, tmp_path):
    meeting = dist.FileStore(str(tmp_path / "meeting"), 1)
    with group(device, meeting, 0, 1):
        assert dist.get_backend() == ("nccl" if device.type == "cuda" else "gloo")
        numbers = torch.ones(4, device=device)
        dist.all_reduce(numbers)
        assert numbers.tolist() == [1, 1, 1, 1]
        things = [{"weights": torch.ones(3)}]
        dist.broadcast_object_list(things)
        found = [None]
        dist.gather_object("score", found)
        assert found == ["score"]
        assert first_says(True, device) and from_first("it") == "it" and gather(1) == [1]
    assert not dist.is_initialized()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_sum_their_numbers():
    assert exchange_bytes_per_s([torch.device("cuda", n) for n in range(2)]) > 1e8

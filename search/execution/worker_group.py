"""A trial over several workers: the ranks of torch.distributed, in the bundles of one trial.

The Trainable is rank 0 in the first bundle. Every other rank is an actor that lives as long as it,
and takes each step with it: all iterate the same `fit`, in a process group of the trial's own.

A rank that fails leaves the others waiting for it, for ever if the network library does not notice.
So a thread of rank 0 waits for the other ranks' answers. After a fault it ends all of them, and if
rank 0 does not hear of it either, its process: it would have to be replaced in any case, and to
abort a collective from outside could let a step with half its gradients pass as a good one.
"""

import gc
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import OutOfMemoryError, RayError
from ray.util import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from search.execution.logs.trial_log import TrialLog, print_traceback
from search.execution.worker import check_memory, ending_of, load, on_its_devices
from search.storage.run_folders import LOG
from trainer.config import TrainConfig
from trainer.exceptions import OutOfMemory, StoreError, first_line

if TYPE_CHECKING:
    from torch.distributed import Store

GRACE_S = 30.0
"""In which all ranks have to come to an end that one of them came to."""
BLAME_S = 2.0
"""Which rank 0 waits, when its own part fails, to hear whether another rank is the cause."""
MEMORY = "out of memory"
"""The ending of a rank's trial that may be its alone: not all GPUs are equally full."""
UNHEARD = "out_of_memory"
"""In the run folder: the next attempt ends as this one did, whose rank 0 had to be ended."""
HOST = "127.0.0.1"
"""Where the ranks meet: all are on one node."""

Fit = Callable[[], Generator[Any, None, None]]


class WorkerGroup:
    """The ranks of a Trainable but the first, for one trial after the other.

    Args:
        spec: Of the first trial; all have the same resources.
    """

    def __init__(self, spec: dict[str, Any]):
        bundles, size = get_current_placement_group(), spec["workers"]
        assert bundles is not None
        remote_rank: Any = ray.remote(Rank)  # whose methods Ray's types know only if decorated
        self._actors: list[ActorHandle[Any]] = [
            remote_rank.options(
                num_cpus=spec["cpus"] / size,
                num_gpus=spec["gpus"] / size,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    bundles, placement_group_bundle_index=rank
                ),
            ).remote(rank)
            for rank in range(1, size)
        ]

    def load(self, spec: dict[str, Any]) -> None:
        """Let every rank import what trains a trial; do not wait for it."""
        self._spec = spec
        self._loaded = [actor.load.remote(spec) for actor in self._actors]

    def train(self, fit: Fit) -> Generator[Any, None, None]:
        """Train what was loaded, in all ranks.

        Yields:
            What rank 0's `fit` does, with every other rank where it is.

        Raises:
            RuntimeError: A rank failed, for which this process and all others must be replaced.
            Exception: As `fit`.
        """
        from torch.distributed import TCPStore

        ray.get(self._loaded)
        # Whoever serves asks for a free port itself: one found before could be taken meanwhile.
        store = TCPStore(HOST, 0, is_master=True, wait_for_workers=False)
        ray.get([actor.begin.remote(store.port) for actor in self._actors])
        own = _in_group(self._spec, fit, store, 0)
        try:
            while (validation := self._step(own)) is not None:
                yield validation
        finally:
            released = [actor.release.remote() for actor in self._actors]
            own.close()
            ray.get(released, timeout=GRACE_S)

    def _step(self, own: Generator[Any, None, None]) -> Any:
        """Return rank 0's next validation once all ranks have it; None at the end."""
        steps = [actor.step.remote() for actor in self._actors]
        returned, blame = Event(), Queue[Exception]()
        Thread(target=self._watch, args=(steps, returned, blame), daemon=True).start()
        try:
            validation = next(own, None)
        except Exception as error:
            if ending_of(error) is None:
                with suppress(Empty):
                    error = blame.get(timeout=BLAME_S)
                self.end()
            elif not _all_answer(steps):
                self.end()  # they waited for this rank, which alone had too little memory
            raise error
        finally:
            returned.set()
        ray.get(steps, timeout=GRACE_S)
        return validation

    def _watch(
        self, steps: list[ray.ObjectRef[str | None]], returned: Event, blame: Queue[Exception]
    ) -> None:
        """Wait for the other ranks' answers; see to it that rank 0 ends when one of them does."""
        left = steps
        while left:
            [answered], left = ray.wait(left)
            rank = 1 + steps.index(answered)
            ending = None
            try:
                ending = ray.get(answered)
            except RayError as error:
                cause = getattr(error, "cause", None) or error
                # What is no fault of this trial keeps its kind, by which the driver knows it.
                known = isinstance(cause, OSError | StoreError | OutOfMemoryError)
                kind = "" if isinstance(cause, RayError) else f"{type(cause).__name__}: "
                said = RuntimeError(f"rank {rank}: {kind}{first_line(cause)}")
                blame.put(cause if known else said)
                self.end()  # at which gloo, if not nccl, breaks off what the others wait for
            else:
                if ending is None:
                    continue
                alone = OutOfMemory if ending == MEMORY else RuntimeError
                blame.put(alone(f"rank {rank}: alone {ending}"))
                if ending == MEMORY and not returned.wait(BLAME_S):
                    self.end()
            if not returned.wait(GRACE_S):
                if ending == MEMORY:
                    (Path(self._spec["run_dir"]) / UNHEARD).write_text(f"rank {rank}: {MEMORY}")
                os._exit(1)
            return

    @property
    def ended(self) -> bool:
        """Whether the other ranks are gone, so that another trial needs another group."""
        return not self._actors

    def end(self) -> None:
        """End all ranks but the first, which trains no further trial without them."""
        actors, self._actors = self._actors, []
        for actor in actors:
            ray.kill(actor)


class Rank:
    """What an actor does for each trial: the same as rank 0, but for what that alone decides.

    Args:
        rank: Its number.
    """

    def __init__(self, rank: int):
        self._rank = rank
        self._log = TrialLog()

    def load(self, spec: dict[str, Any]) -> None:
        """Import what trains a trial; from here on what is printed goes to the trial's log."""
        self._spec = spec
        self._log.begin(Path(spec["run_dir"]) / LOG, prefix=f"[rank {self._rank}] ")
        with _traceback_printed():
            self._fit = load(spec)

    def begin(self, port: int) -> None:
        """Make ready for the first step, with ranks that meet at a port."""
        from torch.distributed import TCPStore

        store = TCPStore(HOST, port)
        self._validations = _in_group(self._spec, self._fit, store, self._rank)

    def step(self) -> str | None:
        """Train until the next validation, or until the end.

        Returns:
            How the trial ended without a measurement, which rank 0 finds as well; else None.
        """
        try:
            with _traceback_printed():
                next(self._validations, None)
        except Exception as error:
            if (ending := ending_of(error)) is None:
                raise
            return MEMORY if isinstance(error, MemoryError) else ending
        return None

    def release(self) -> None:
        """Let go of a trial.

        Raises:
            RuntimeError: Its GPU memory did not come back.
        """
        self._validations.close()
        self._log.end()
        gc.collect()
        check_memory()


@contextmanager
def _traceback_printed() -> Iterator[None]:
    try:
        yield
    except Exception:
        print_traceback()
        raise


def _all_answer(steps: Sequence[ray.ObjectRef[str | None]]) -> bool:
    """Say whether all ranks come to an end by themselves."""
    try:
        ray.get(steps, timeout=GRACE_S)
    except RayError:
        return False
    return True


def _in_group(
    spec: dict[str, Any], fit: Fit, store: "Store", rank: int
) -> Generator[Any, None, None]:
    """Yield what `fit` does, in a process group that ends with it."""
    import torch

    from trainer.devices import pick_device
    from trainer.training.distributed import group

    device = pick_device(TrainConfig.model_validate(on_its_devices(spec["train"], spec["gpus"])))
    if device.type != "cpu":
        [given] = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", given).split(",")
        torch.accelerator.set_device_index(visible.index(given))
    with group(device, store, rank, spec["workers"]):
        yield from fit()

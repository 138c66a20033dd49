"""The training loop: `fit` trains one configuration and yields its validations. Read this first."""

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from trainer.config import DataConfig, TrainConfig
from trainer.configfile import ConfigError, flatten
from trainer.data.batches import Draws, prefetch, rows_of
from trainer.data.store import Store
from trainer.devices import limit_memory, pick_device, set_determinism
from trainer.evaluation.metrics import CaseScore
from trainer.evaluation.validate import Validator, summarize
from trainer.exceptions import (
    Diverged,
    OutOfMemory,
    Replaced,
    is_out_of_memory,
    naming_out_of_memory,
)
from trainer.files.atomic import write_atomically
from trainer.files.damaged import set_aside, settings_in
from trainer.old_names import in_new_names
from trainer.run_log import RunLog, Validation
from trainer.saved import checkpoint
from trainer.saved.checkpoint_writer import CheckpointWriter, host_copy
from trainer.saved.model_io import WEIGHTS, initial_weights
from trainer.saved.seen import ANYBODY, NOBODY, Seen, patients, trained_in
from trainer.training.distributed import (
    first_says,
    from_first,
    gather,
    rank,
    world_size,
)
from trainer.training.train_state import TrainState

__all__ = ["Diverged", "OutOfMemory", "Validation", "fit"]

MAY_CHANGE = {
    "epochs",
    "device",
    "num_threads",
    "data.store",
    "memory_share",
    "norm_kernel",
    "cuda_graph",
}
"""Settings with which a run may be continued otherwise than it was begun."""


@naming_out_of_memory
def fit(config: TrainConfig, run_dir: Path, *, received: int = -1) -> Iterator[Validation]:
    """Train one configuration, or continue it from the newest checkpoint in its folder.

    A checkpoint is written after the epoch's last optimizer step, before its validation, so a run
    killed during a validation repeats the validation and no training. The averaged weights that a
    validation judged are `run_dir/ema.pt`, which every later one replaces. On a GPU, a validation
    is scored while the next epoch trains (validate.py: `scores_beside`) and yielded between two of
    its steps; the next checkpoint waits for that, and a run killed meanwhile repeats it as well.
    Between optimizer steps the loop touches `run_dir/alive` and looks for `run_dir/stop`: then it
    checkpoints and ends. Whoever calls it later for the same folder owns the folder, and the
    earlier call writes nothing more.

    In several processes (training/distributed.py) all call it and get the same validations; the
    first alone reads and writes the folder.

    Without epochs to train, `init_from`'s weights are validated once, as epoch 0.

    Args:
        config: What to train.
        run_dir: The run's folder: config.yaml, metrics.jsonl, cases.parquet, checkpoints/.
        received: Last epoch whose validation the caller has, -1 for none; every later one is
            yielded once.

    Yields:
        A validation every `config.validation.every` epochs and at the last.

    Raises:
        ConfigError: The settings do not suit the data, or init_from's weights not the settings.
        ValueError: The folder holds another configuration's run, or the store other data than
            were asked for.
        Diverged: A loss is not finite.
        OutOfMemory: The memory is too small, even for one image at a time.
        Replaced: Another process trains in the folder since.
        RuntimeError: The process that scores validations has ended.
        OSError: The disk is full or fails.
    """
    torch.set_num_threads(config.num_threads)
    set_determinism(config)
    device, first = pick_device(config), rank() == 0
    limit_memory(config, device)
    store = Store.open(config.data.store)
    training, held_out = store.split(config.data.fold)
    if config.batch.effective < world_size():
        raise ConfigError(
            [f"batch.effective: {config.batch.effective}: less than the {world_size()} processes"]
        )
    draws = Draws(store, config, rows_of(training))
    config = naming_its_data(config, store)
    signs = RunControl(run_dir)
    if first and holds(run_dir, config):
        signs.own(config)

    state = TrainState(config, store, device)
    validator = Validator(store, held_out[rank() :: world_size()], config, state.process, device)
    saved = from_first(checkpoint.load_latest(run_dir / "checkpoints") if first else None)
    seen = NOBODY
    if saved:
        state.load_state_dict(saved)
        seen = Seen.parse(saved.get("trained_on")) or (ANYBODY if config.init_from else NOBODY)
    elif config.init_from:
        weights: dict[str, Tensor] = {}
        if first:
            weights, seen = initial_weights(config, state.inputs.spec, store)
        state.start_from(from_first(weights))
    if first and not signs.signature:  # what cannot begin leaves no folder, which refuses others
        signs.own(config)
    if config.epochs:
        seen = seen.also(trained_in(patients(map(vars, store.cases)), config.data.fold))
    state.trained_on = seen.record()
    record = RunLog(
        run_dir, keeps=first, judged=lambda: checkpoint.read_if_whole(run_dir / WEIGHTS)
    )
    record.forget_after(state.images // config.epoch_images)
    yield from [v for v in record.validations if v.epoch > received]

    pending: Pending | None = None
    begun = time.perf_counter()

    def report() -> Iterator[Validation]:
        """Record and yield the pending validation, if there is one, once it is scored."""
        nonlocal pending, begun
        if pending is None:
            return
        waited = time.perf_counter()
        scores = gather_by_case(scoring.scores())
        metrics = pending.metrics | (summarize(scores) if first else {})
        metrics |= {"time/case_s": pending.case_s}
        writer.wait()
        signs.check_own()
        if first:
            judged = pending.weights | {"epoch": pending.epoch, "metrics": metrics}
            checkpoint.write(run_dir / WEIGHTS, judged)
        metrics |= {"time/validate_s": pending.sampling_s + time.perf_counter() - waited}
        validation = from_first(Validation(pending.epoch, metrics, state.path))
        record.add(validation, scores)
        pending = None
        if validation.epoch > received:  # not so after a damaged checkpoint
            yield validation
        begun += time.perf_counter() - waited  # an epoch's time is that of its training

    with (
        closing(prefetch(draws.batches(state.images, device, rank(), world_size()))) as batches,
        closing(validator.scoring()) as scoring,
        CheckpointWriter(device, signs.check_own) as writer,
    ):
        while True:
            epoch, ended = state.images // config.epoch_images, due(config, state)
            if ended:
                metrics = state.epoch_means() | {"time/epoch_s": time.perf_counter() - begun}
                begun = time.perf_counter()
                if not record.has(epoch):
                    scoring.begin(
                        validator.probabilities(
                            state.ema,
                            epoch,
                            batch_size=state.sampling_batch,
                            autocast=state.autocast,
                            alive=signs.live,
                        )
                    )
                    weights = (
                        state.for_use() if scoring.ready() else host_copy(state.for_use(), device)
                    )
                    sampling_s = time.perf_counter() - begun
                    pending = Pending(epoch, metrics, weights, sampling_s, validator.case_s)
                begun = time.perf_counter()
            if epoch >= config.epochs or scoring.ready():
                yield from report()
            if epoch >= config.epochs:
                return
            if first_says(signs.live(), device):
                yield from report()
                if first and not ended:
                    writer.save(run_dir / "checkpoints", state.images, state.state_dict())
                return
            try:
                state.step(next(batches))
            except Exception as error:
                if isinstance(error, Diverged) or is_out_of_memory(error):
                    yield from report()
                raise
            if due(config, state):
                yield from report()
                if first:
                    writer.save(run_dir / "checkpoints", state.images, state.state_dict())


@dataclass(frozen=True)
class Pending:
    """A validation whose cases are sampled, and scored while the next epoch trains."""

    epoch: int
    metrics: dict[str, float]
    """Of the epoch's training."""
    weights: dict[str, Any]
    """Of `TrainState.for_use`, as they were sampled from."""
    sampling_s: float
    case_s: float


def gather_by_case(scores: list[CaseScore]) -> list[CaseScore]:
    """Return all processes' scores in the first, in the order that one process would have."""
    shares = gather(scores)
    longest = max(len(share) for share in shares)
    return [share[i] for i in range(longest) for share in shares if i < len(share)]


class RunControl:
    """A run's sign of life, `alive`, and the sign to stop, `stop`: files, for anyone to see.

    Of several processes, each touches the folder that it sees and the first is asked to stop. The
    first also signs the folder, `owner`: a process on a host that was cut off, and thought dead,
    finds another signature when it returns.
    """

    PERIOD_S = 1.0

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir
        self.next_s = 0.0
        self.stop = False
        self.signature = ""

    def own(self, config: TrainConfig) -> None:
        """Write the run's configuration and sign the folder."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_atomically(self.run_dir / "config.yaml", lambda path: path.write_text(text))
        self.signature = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}\n"
        path = self.run_dir / "owner"
        if path.is_dir():
            set_aside(path)
        write_atomically(path, lambda temporary: temporary.write_text(self.signature))

    def check_own(self) -> None:
        """Check, before something is written, that no one else signed the folder since.

        Raises:
            Replaced: Someone did.
        """
        if self.signature and (self.run_dir / "owner").read_text() != self.signature:
            raise Replaced(f"{self.run_dir}: another process trains this run now")

    def live(self) -> bool:
        """Touch `alive` and return whether `stop` is there; the disk is asked once a second."""
        if time.monotonic() >= self.next_s:
            self.check_own()
            if self.run_dir.exists():
                (self.run_dir / "alive").touch()
            self.stop = (self.run_dir / "stop").exists()
            self.next_s = time.monotonic() + self.PERIOD_S
        return self.stop


def due(config: TrainConfig, state: TrainState) -> bool:
    """Say whether the last optimizer step ended an epoch that is validated; 0 is, without any."""
    if not config.epochs:
        return True
    epoch = state.images // config.epoch_images
    before = (state.images - config.batch.effective) // config.epoch_images
    ended = 0 <= before < epoch
    return ended and (epoch % config.validation.every == 0 or epoch >= config.epochs)


def naming_its_data(config: TrainConfig, store: Store) -> TrainConfig:
    """Return the configuration with the store's content hash, which names the data for ever.

    Raises:
        ValueError: It already names other data.
    """
    if config.data.store_hash not in (None, store.content_hash):
        raise ValueError(
            f"{config.data.store}: content {store.content_hash[:12]}: this is not the data that "
            f"was asked for (data.store_hash {config.data.store_hash})"
        )
    data = config.data.model_copy(update={"store_hash": store.content_hash})
    return config.model_copy(update={"data": data})


def holds(run_dir: Path, config: TrainConfig) -> bool:
    """Return whether a folder holds this very run already; not, where nothing was begun in it.

    Raises:
        ValueError: It holds another run, and the message names the first setting that differs.
    """
    mine = config.model_dump(mode="json")
    path = run_dir / "config.yaml"
    if not path.exists():
        return False
    # What the version that began it did not have was as it is by default.
    new = TrainConfig(data=DataConfig(store=config.data.store)).model_dump(mode="json")
    flat = flatten(mine)
    begun = settings_in(path)
    if begun is None:  # what was trained says under which settings
        set_aside(path)
        saved = checkpoint.load_latest(run_dir / "checkpoints")
        if saved is None:
            return False
        begun = saved["config"]
    if "validation" not in begun:
        raise ValueError(
            f"{run_dir}: was begun by segtune 0.1, which trained otherwise: continue it with "
            "that version, or begin another run, with init_from for its weights"
        )
    found = {**flatten(new), **in_new_names(flatten(begun))}
    for key in sorted(flat.keys() | found.keys()):
        if key not in MAY_CHANGE and flat.get(key) != found.get(key):
            raise ValueError(
                f"{path}: {key}: {found.get(key)!r}: this run was begun so "
                f"and cannot go on with {flat.get(key)!r}"
            )
    return True

"""The weights of a run, and the one thing that changes them: an optimizer step."""

import copy
import math
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainer.config import TrainConfig
from trainer.data.batches import Batch
from trainer.data.inputs import Inputs
from trainer.data.store import Store
from trainer.devices import dtype, wants_bf16
from trainer.diffusion.process import Process
from trainer.diffusion.timestep_sampling import TimestepSampler
from trainer.exceptions import Diverged, OutOfMemory, is_out_of_memory
from trainer.models.fused import are_fused, use_kernels
from trainer.models.new_network import new_network
from trainer.randomness import torch_seed
from trainer.training.distributed import rank, sum_over_processes, world_size
from trainer.training.graphs import Graphs, no_graph
from trainer.training.loss_weighting import TermWeights
from trainer.training.losses import term_names
from trainer.training.micro_batch import MicroBatch, MicroStep, micro_batches
from trainer.training.optimizer import (
    learning_rate_share,
    make_optimizer,
    set_learning_rate,
    static_gradients,
)

EMA_RAMP = 0.1
"""The half-life is at most this share of the images seen: early averages forget the start."""


class Word:
    """Numbers that the device has yet to say; on a GPU they are copied without waiting."""

    def __init__(self, values: Tensor):
        self._values = values
        self._said: torch.cuda.Event | None = None
        if values.is_cuda:
            self._values = torch.empty_like(values, device="cpu", pin_memory=True)
            self._values.copy_(values, non_blocking=True)
            self._said = torch.cuda.Event()
            self._said.record()

    def wait(self) -> list[float]:
        """Return the numbers, once they are there."""
        if self._said:
            self._said.synchronize()
        numbers: list[float] = self._values.tolist()
        return numbers


class Outcome(NamedTuple):
    """What came of an optimizer step."""

    word: Word
    """The raw terms' sums, the gradient's norm and the learned log-variances, in this order."""
    given: dict[str, float]
    """The terms' weights before anything learned."""
    lr: float
    step: int


class TrainState:
    """Model, EMA weights, optimizer, histories and counters: what a checkpoint holds.

    With several processes each has the same state and adds its share of every batch: gradients and
    losses are sums over the effective batch, so that they are equal up to rounding for any number
    of processes and any micro-batch.
    """

    def __init__(self, config: TrainConfig, store: Store, device: torch.device):
        self.config = config
        self.process = Process(config.diffusion)
        self.inputs = Inputs(store, config, device)
        torch.manual_seed(torch_seed(config.seed, "weights"))
        self.model = new_network(config, self.inputs.spec, device)
        self.dtype = dtype(config)
        self.has_kernels = are_fused(self.model)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        names = term_names(
            config.loss,
            segments_directly=self.model.segments_directly,
            has_anchor=self.model.has_anchor,
            learned_range=config.diffusion.variance == "learned_range",
        )
        self.term_weights = TermWeights(config.loss, names).to(device, self.dtype)
        self.timestep_sampler = TimestepSampler(config.diffusion)
        self.optimizer = make_optimizer(config.optimizer, self.model, self.term_weights)
        self.autocast = torch.autocast(
            device.type,
            torch.bfloat16,
            enabled=wants_bf16(config, device),
            # In a graph, weights that were cast once would be cast never again.
            cache_enabled=device.type != "cuda",
        )
        # Kept, since a walk through all layers takes 0.7 ms, and a step on a GPU takes 10.
        self._weights: list[Tensor] = list(self.model.parameters())
        self._averages: list[Tensor] = list(self.ema.parameters())
        self.gradients = static_gradients(self._parameters())
        """Of all parameters, which hold views of it: zeroed at once, and never in another place."""
        self.runs_ahead = device.type == "cuda"
        """Steps are queued on the device, and what came of one is read after the next was."""
        step = MicroStep(
            config,
            model=self.model,
            term_weights=self.term_weights,
            process=self.process,
            inputs=self.inputs,
            autocast=self.autocast,
        )
        self.graphs = Graphs(step, self.gradients, no_graph(config, device))
        self._unread: deque[Outcome] = deque()
        self.images = 0
        """Training images seen."""
        self.trained_on: dict[str, Any] | None = None
        """Whose they were, for the record (trainer/saved/seen.py)."""
        self.micro = config.batch.micro or -(-config.batch.effective // world_size())
        """Images per forward pass of one process."""
        self.totals: dict[str, float] = {}
        """Sums since the last validation: terms by image, gradient norm by step, and counts."""

    @property
    def sampling_batch(self) -> int:
        """Masks to sample together: without a backward pass, four times the micro-batch fits.

        On a GPU enough to keep it busy while the next kernels are launched, one by one.
        """
        return max(4 * self.micro, 128 if self.gradients.is_cuda else 1)

    @property
    def path(self) -> str:
        """How a GPU's steps are computed, or will be, for the record; empty for a CPU."""
        if not self.gradients.is_cuda:
            return ""
        used = {"graph": self.graphs.refused is None, "kernels": self.has_kernels}
        return "+".join(name for name, uses in used.items() if uses) or "plain"

    @property
    def step_number(self) -> int:
        return self.images // self.config.batch.effective

    @property
    def progress(self) -> float:
        """Share of training that is over."""
        return self.images / (self.config.epochs * self.config.epoch_images)

    def step(self, batch: Batch) -> None:
        """Take one optimizer step.

        A GPU is given the step and not waited for: a step that turns out not to be finite changed
        nothing, and the next `step` or `settle` raises what it would have raised.

        Args:
            batch: This process's share of one effective batch.

        Raises:
            Diverged: A loss term or the gradient is not finite; weights are as before the step.
            OutOfMemory: One image does not fit.
        """
        config, size = self.config.optimizer, self.config.batch.effective
        total = self.config.epochs * self.config.epoch_images
        share = learning_rate_share(config, self.images, size, total)
        given = self.term_weights.given(self.progress)
        sums = self._gradients(batch, given)
        norm = nn.utils.clip_grad_norm_(self._weights, config.clip_norm)
        values = torch.cat([sums, norm[None], self.term_weights.log_variances().to(sums)])
        self._unread.append(Outcome(Word(values), given, config.lr * share, self.step_number))
        skipped = None
        if self.runs_ahead:
            skipped = 1 - values.isfinite().all().float()
            self.optimizer.found_inf = skipped  # type: ignore[attr-defined]
        else:
            self.settle()
        set_learning_rate(self.optimizer, share)
        self.optimizer.step()
        self.term_weights.clamp_()
        self.images += size
        self._average(size, skipped)
        self.settle(but=1)

    def settle(self, but: int = 0) -> None:
        """Wait for the device's word on the steps taken, and count them.

        Args:
            but: Newest steps that are left for later.

        Raises:
            Diverged: One was not finite.
        """
        while len(self._unread) > but:
            outcome = self._unread.popleft()
            values = outcome.word.wait()
            names = self.term_weights.names
            raw = dict(zip(names, values, strict=False))
            norm, log_variances = values[len(names)], values[len(names) + 1 :]
            for name, value in raw.items():
                if not math.isfinite(value):
                    raise Diverged(f"step {outcome.step}: loss term {name} is {value}")
            if not math.isfinite(norm):
                raise Diverged(f"step {outcome.step}: the gradient's norm is {norm}")
            weights = self.term_weights.with_learned(outcome.given, log_variances)
            weighted = {f"{name}_weighted": weights[name] * value for name, value in raw.items()}
            size = self.config.batch.effective
            counted = raw | weighted | {"loss": sum(weighted.values())}
            counted |= {"grad_norm": norm, "lr": outcome.lr, "steps": 1, "images": size}
            for name, value in counted.items():
                self.totals[name] = self.totals.get(name, 0.0) + value

    def _gradients(self, batch: Batch, given: dict[str, float]) -> Tensor:
        """Fill the gradients of all processes' images.

        Args:
            batch: This process's share.
            given: The loss terms' weights before anything learned.

        Returns:
            Each raw term summed over the effective batch, (terms,).
        """
        t, importance = self.timestep_sampler.draw(batch.position)
        term_weights = torch.tensor(list(given.values()), dtype=self.dtype)
        sums, losses, failed = self._fit_in_memory(batch, t, importance, term_weights)
        if world_size() > 1:
            failures = sums.new_tensor([float(failed is not None)])
            sum_over_processes([self.gradients, sums, failures])
            if failures.item():
                raise OutOfMemory("one image does not fit on the device") from failed
        elif failed:
            raise OutOfMemory("one image does not fit on the device") from failed
        if not self.timestep_sampler.uniform:
            self._remember(t, losses, sums)
        return sums

    def _remember(self, t: Tensor, losses: Tensor, sums: Tensor) -> None:
        """Tell the timestep sampler of every image of the batch, whoever had it."""
        size = self.config.batch.effective
        history = losses.new_zeros(2, size)
        begin = rank() * size // world_size()
        history[:, begin : begin + len(t)] = torch.stack([t.to(losses), losses])
        sum_over_processes([history])
        if sums.isfinite().all():
            self.timestep_sampler.update(history[0].round().long(), history[1])

    def _fit_in_memory(
        self, batch: Batch, t: Tensor, importance: Tensor, term_weights: Tensor
    ) -> tuple[Tensor, Tensor, Exception | None]:
        """Accumulate over micro-batches, smaller ones while they do not fit.

        Returns:
            The raw terms summed over the images, (terms,); each image's weighted loss, (b,); and
            the error if not even one image fits, which the other processes must hear of.
        """
        while True:
            parts = micro_batches(batch, self.micro, t, importance, term_weights)
            try:
                return *self._accumulate(parts), None
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.graphs.release()
                if self.micro == 1:
                    self.gradients.zero_()
                    names = self.term_weights.names
                    return self.gradients.new_zeros(len(names)), t.new_zeros(len(t)), error
                self.micro = next(
                    d for d in range(self.micro // 2, 0, -1) if self.config.batch.effective % d == 0
                )
            torch.cuda.empty_cache()  # what cuBLAS and cuDNN allocate is not torch's to find

    def _accumulate(self, parts: Sequence[MicroBatch]) -> tuple[Tensor, Tensor]:
        self.gradients.zero_()
        for part in parts:
            self.graphs.prepare(part)
        diffusion = self.config.diffusion
        passes = [
            self.graphs(
                part,
                recycles=bool((part.coins < diffusion.recycling).any()),
                conditions=bool((part.coins < diffusion.self_conditioning).any()),
            )
            for part in parts
        ]
        sums = torch.stack([each.sums for each in passes]).sum(0)
        return sums, torch.cat([each.losses for each in passes])

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.term_weights.parameters()]

    def _average(self, size: int, skipped: Tensor | None = None) -> None:
        """Let the average follow the weights; not where `skipped` is 1 (0 or 1, on the device)."""
        half_life = min(self.config.optimizer.ema_half_life_images, EMA_RAMP * self.images)
        decay = 0.5 ** (size / half_life)
        if skipped is None:
            get_ema_multi_avg_fn(decay)(self._averages, self._weights, 0)
            return
        with torch.no_grad():
            ways = torch._foreach_sub(self._weights, self._averages)
            torch._foreach_mul_(ways, (1 - skipped) * (1 - decay))
            torch._foreach_add_(self._averages, ways)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with given weights, for training and as their average."""
        self.model.load_state_dict(weights)
        self.ema.load_state_dict(weights)

    def epoch_means(self) -> dict[str, float]:
        """Return the epoch's `train/*` means, none without training, and begin the next epoch's.

        Raises:
            Diverged: As `settle`.
        """
        self.settle()
        totals, self.totals = self.totals, {}
        steps, images = totals.pop("steps", 0), totals.pop("images", 0)
        by_step = {"grad_norm", "lr"}
        return {f"train/{k}": v / (steps if k in by_step else images) for k, v in totals.items()}

    def for_use(self) -> dict[str, Any]:
        """Return all that predicting needs (trainer/saved/model_io.py)."""
        return {
            "config": self.config.model_dump(mode="json"),
            "inputs": self.inputs.describe(),
            "ema": self.ema.state_dict(),
            "trained_on": self.trained_on,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run needs to go on, and all that its use needs.

        Raises:
            Diverged: As `settle`.
        """
        self.settle()
        return self.for_use() | {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "term_weights": self.term_weights.state_dict(),
            "timestep_sampler": self.timestep_sampler.state_dict(),
            "images": self.images,
            "micro": self.micro,
            "totals": self.totals,
            "path": self.path,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a checkpoint was written."""
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.term_weights.load_state_dict(state["term_weights"])
        self.timestep_sampler.load_state_dict(state["timestep_sampler"])
        self.images, self.micro = state["images"], state["micro"]
        self.totals = dict(state["totals"])
        if self.gradients.is_cuda:
            # Before it was recorded, steps were plain.
            self._take(state.get("path") or "plain")

    def _take(self, path: str) -> None:
        """Go on as a run was computed until here, if this device can."""
        if "graph" not in path:
            self.graphs.refused = "this run was begun without one"
        if "kernels" not in path:
            self.has_kernels = any([use_kernels(each, False) for each in (self.model, self.ema)])
        if self.path != path:
            print(f"note: this run was computed by {path}, and goes on by {self.path}", flush=True)

"""The weights of a run, and the one thing that changes them: an optimizer step."""

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from trainer.config import TrainConfig
from trainer.data.batches import Batch, augmented
from trainer.data.inputs import Inputs
from trainer.data.store import Store
from trainer.devices import dtype, wants_bf16
from trainer.diffusion.process import Process
from trainer.diffusion.self_conditioning import own_estimate, recycled
from trainer.diffusion.timestep_sampling import TimestepSampler
from trainer.exceptions import Diverged, OutOfMemory, is_out_of_memory
from trainer.models.dropout import set_images
from trainer.models.new_network import new_network
from trainer.randomness import torch_seed
from trainer.training.distributed import rank, sum_over_processes, world_size
from trainer.training.loss_weighting import TermWeights
from trainer.training.losses import loss_terms, term_names
from trainer.training.optimizer import learning_rate_share, make_optimizer, set_learning_rate

EMA_RAMP = 0.1
"""The half-life is at most this share of the images seen: early averages forget the start."""


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
            device.type, torch.bfloat16, enabled=wants_bf16(config, device)
        )
        self.images = 0
        """Training images seen."""
        self.micro = config.batch.micro or -(-config.batch.effective // world_size())
        """Images per forward pass of one process."""
        self.totals: dict[str, float] = {}
        """Sums since the last validation: terms by image, gradient norm by step, and counts."""

    @property
    def step_number(self) -> int:
        return self.images // self.config.batch.effective

    @property
    def progress(self) -> float:
        """Share of training that is over."""
        return self.images / (self.config.epochs * self.config.epoch_images)

    def step(self, batch: Batch) -> None:
        """Take one optimizer step.

        Args:
            batch: This process's share of one effective batch.

        Raises:
            Diverged: A loss term or the gradient is not finite; weights are as before the step.
            OutOfMemory: One image does not fit.
        """
        config, size = self.config.optimizer, self.config.batch.effective
        terms = self._gradients(batch)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), config.clip_norm))
        if not math.isfinite(norm):
            raise Diverged(f"step {self.step_number}: the gradient's norm is {norm}")
        total = self.config.epochs * self.config.epoch_images
        set_learning_rate(self.optimizer, learning_rate_share(config, self.images, size, total))
        self.optimizer.step()
        self.term_weights.clamp_()
        self.images += size
        self._average(size)
        by_step = {"grad_norm": norm, "lr": self.optimizer.param_groups[0]["lr"], "steps": 1}
        for name, value in (terms | by_step | {"images": size}).items():
            self.totals[name] = self.totals.get(name, 0.0) + value

    def _gradients(self, batch: Batch) -> dict[str, float]:
        """Fill the gradients of all processes' images.

        Returns:
            Each raw and weighted term summed over the effective batch.
        """
        t, importance = self.timestep_sampler.draw(batch.position)
        sums, losses, failed = self._fit_in_memory(batch, t, importance)
        failures = sums.new_tensor([float(failed is not None)])
        # What the timestep sampler must know of every image of the batch, whoever had it.
        history = sums.new_zeros(2, self.config.batch.effective)
        begin = rank() * self.config.batch.effective // world_size()
        history[:, begin : begin + len(t)] = torch.stack([t.to(losses), losses])
        sum_over_processes(
            [*(p.grad for p in self._parameters() if p.grad is not None), sums, history, failures]
        )
        if failures.item():
            raise OutOfMemory("one image does not fit on the device") from failed
        weight = self.term_weights.current(self.progress)
        values = dict(zip(weight, sums.tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                raise Diverged(f"step {self.step_number}: loss term {name} is {value}")
        self.timestep_sampler.update(history[0].round().long(), history[1])
        weighted = {f"{name}_weighted": weight[name] * value for name, value in values.items()}
        return values | weighted | {"loss": sum(weighted.values())}

    def _fit_in_memory(
        self, batch: Batch, t: Tensor, importance: Tensor
    ) -> tuple[Tensor, Tensor, Exception | None]:
        """Accumulate over micro-batches, smaller ones while they do not fit.

        Returns:
            The raw terms summed over the images, (terms,); each image's weighted loss, (b,); and
            the error if not even one image fits, which the other processes must hear of.
        """
        while True:
            try:
                return *self._accumulate(batch, t, importance), None
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.micro == 1:
                    self._zero_gradients()
                    names = self.term_weights.names
                    return batch.noise.new_zeros(len(names)), batch.noise.new_zeros(len(t)), error
                self.micro = next(
                    d for d in range(self.micro // 2, 0, -1) if self.config.batch.effective % d == 0
                )
            torch.cuda.empty_cache()  # what cuBLAS and cuDNN allocate is not torch's to find

    def _accumulate(self, batch: Batch, t: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
        self.model.train()
        self._zero_gradients()
        sums: list[Tensor] = []
        losses: list[Tensor] = []
        parts = zip(
            batch.micro(self.micro), t.split(self.micro), importance.split(self.micro), strict=True
        )
        for part, part_t, part_importance in parts:
            device = part.images.device
            raw = self._raw_terms(part, part_t.to(device))
            per_image = self.term_weights(raw, self.progress)
            # The denominator is the effective batch's, so that the micro-batch only rounds.
            loss = (per_image * part_importance.to(device)).sum() / self.config.batch.effective
            loss.backward()
            losses.append((per_image - self.term_weights.penalty()).detach())
            sums.append(torch.stack([term.detach().sum() for term in raw.values()]))
        return torch.stack(sums).sum(0), torch.cat(losses)

    def _raw_terms(self, batch: Batch, t: Tensor) -> dict[str, Tensor]:
        cond, x_start = (x.to(self.dtype) for x in augmented(batch, self.inputs))
        noise = batch.noise.to(self.dtype)
        set_images(self.model, self.config.seed, batch.numbers)
        with self.autocast:
            condition = self.model.condition(cond)
        x_t = self.process.q_sample(x_start, t, noise)
        estimate = None

        def model_fn(model_input: Tensor, t: Tensor) -> Tensor:
            with self.autocast:
                output: Tensor = self.model(model_input, t, condition)
                return output

        if (chosen := self._chosen(batch, self.config.diffusion.recycling)) is not None:
            again = recycled(self.process, model_fn, noise, t)
            x_t = torch.where(chosen, again, x_t)
        if (chosen := self._chosen(batch, self.config.diffusion.self_conditioning)) is not None:
            own = own_estimate(self.process, model_fn, x_t, t)
            estimate = torch.where(chosen, own, 0)
        output = model_fn(self.process.model_input(x_t, estimate), t)
        return loss_terms(
            output,
            process=self.process,
            x_start=x_start,
            x_t=x_t,
            noise=noise,
            t=t,
            config=self.config.loss,
            segments_directly=self.model.segments_directly,
            anchor_logits=condition[0] if self.model.has_anchor else None,
        )

    @staticmethod
    def _chosen(batch: Batch, share: float) -> Tensor | None:
        """Return which images belong to a share of all, (b, 1, 1, 1) bool; None if none does."""
        chosen = batch.coins < share
        return chosen[:, None, None, None] if chosen.any() else None

    def _parameters(self) -> list[nn.Parameter]:
        return [*self.model.parameters(), *self.term_weights.parameters()]

    def _zero_gradients(self) -> None:
        """Set all gradients to 0, none to None: all processes' must have the same places."""
        for parameter in self._parameters():
            parameter.grad = torch.zeros_like(parameter)

    def _average(self, size: int) -> None:
        half_life = min(self.config.optimizer.ema_half_life_images, EMA_RAMP * self.images)
        average = get_ema_multi_avg_fn(0.5 ** (size / half_life))
        average(list(self.ema.parameters()), list(self.model.parameters()), 0)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with given weights, for training and as their average."""
        self.model.load_state_dict(weights)
        self.ema.load_state_dict(weights)

    def epoch_means(self) -> dict[str, float]:
        """Return the epoch's `train/*` means, none without training, and begin the next epoch's."""
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
        }

    def state_dict(self) -> dict[str, Any]:
        """Return all that a run needs to go on, and all that its use needs."""
        return self.for_use() | {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "term_weights": self.term_weights.state_dict(),
            "timestep_sampler": self.timestep_sampler.state_dict(),
            "images": self.images,
            "micro": self.micro,
            "totals": self.totals,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.term_weights.load_state_dict(state["term_weights"])
        self.timestep_sampler.load_state_dict(state["timestep_sampler"])
        self.images, self.micro = state["images"], state["micro"]
        self.totals = dict(state["totals"])

"""A micro-batch as a CUDA graph: one launch for thousands of kernels, where a launch costs as much.

A graph is recorded for each size of a micro-batch, and repeats what the plain pass did then, with
other numbers in the same places. So all that changes is a tensor (`MicroBatch`), and before a graph
is used, two other batches with other timesteps and weights have to give what they give plainly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainer.config import TrainConfig
from trainer.exceptions import first_line, is_out_of_memory
from trainer.training.micro_batch import MicroBatch, MicroStep, Pass, moved, pinned

SUMS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
"""Relative difference, of the whole, between a graph and the plain pass. On one card they have been
the same bits; another choice of a convolution's algorithm would round differently."""


class Recorded(NamedTuple):
    """A graph with the places where it reads and writes."""

    graph: "torch.cuda.CUDAGraph"
    inputs: MicroBatch
    result: Pass

    def replay(self, micro: MicroBatch) -> Pass:
        """Pass a micro-batch through; the result is overwritten by the next."""
        for place, value in zip(self.inputs, micro, strict=True):
            place.copy_(value if value.is_cuda else pinned(value), non_blocking=True)
        self.graph.replay()
        return self.result


class Graphs:
    """Runs micro-batches as graphs, or plainly where that is not possible.

    Attributes:
        refused: Why no graph is used; None while one is, or may be.
    """

    def __init__(self, step: MicroStep, gradients: Tensor, refused: str | None):
        """
        Args:
            step: The plain pass.
            gradients: All parameters' gradients, which it adds to.
            refused: Why no graph is wanted.
        """
        self.step = step
        self.gradients = gradients
        self.refused = refused
        self._recorded: dict[int, Recorded] = {}
        self._pool: Any = None

    def prepare(self, micro: MicroBatch) -> None:
        """Record the graph of a micro-batch's size, if there is none. Leaves the gradients 0.

        Raises:
            OutOfMemoryError: Recording needs more memory than there is, and smaller ones may not.
        """
        if self.refused or len(micro.t) in self._recorded:
            return
        try:
            recorded = self._record(moved(micro, self.gradients.device))
        except Exception as error:  # Triton's are no RuntimeError
            no_memory, self.refused = _explained(error)
            if no_memory and len(micro.t) > 1:
                self.refused = None
                raise torch.OutOfMemoryError("recording a graph") from None
        else:
            self._recorded[len(micro.t)] = recorded
        self.gradients.zero_()
        if self.refused:
            self.release()
            print(f"note: steps run without a CUDA graph: {self.refused}", flush=True)

    def __call__(self, micro: MicroBatch, *, recycles: bool, conditions: bool) -> Pass:
        """As `MicroStep`, for a micro-batch that may be on the CPU."""
        if recorded := self._recorded.get(len(micro.t)):
            sums, losses = recorded.replay(micro)
            return Pass(sums.clone(), losses.clone())
        micro = moved(micro, self.gradients.device)
        return self.step(micro, recycles=recycles, conditions=conditions)

    def release(self) -> None:
        """Give the graphs' memory back."""
        self._recorded.clear()
        self._pool = None

    def _plain(self, micro: MicroBatch) -> Pass:
        """Pass through as a graph does: for the shares of all images, be they empty or not."""
        diffusion = self.step.config.diffusion
        return self.step(
            micro, recycles=diffusion.recycling > 0, conditions=diffusion.self_conditioning > 0
        )

    def _record(self, micro: MicroBatch) -> Recorded:
        others = [_varied(micro, by, self.step.process.num_timesteps) for by in (1, 2)]
        expected = []
        # On the stream that records: what a first pass sets up (FFT plans, tables) must not be
        # recorded, and every other stream would be given 64 MiB of workspace for ever.
        stream = _recording_stream(self.gradients.device)
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), _shaken(self.step.model):
            for other in others:
                self.gradients.zero_()
                result = self._plain(other)
                expected.append((Pass(*result), self.gradients.clone()))
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.empty_cache()
        inputs = MicroBatch(*(tensor.clone() for tensor in micro))
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # thread_local: the thread that prefetches may pin memory meanwhile.
        own = torch.cuda.current_stream()
        try:
            with torch.cuda.graph(
                graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"
            ):
                result = self._plain(inputs)
        finally:
            torch.cuda.set_stream(own)  # where its end fails, a recording leaves its stream
        recorded = Recorded(graph, inputs, result)
        with _shaken(self.step.model):
            for other, (plain, gradients) in zip(others, expected, strict=True):
                self.gradients.zero_()
                result = recorded.replay(other)
                _compare("sums", result.sums, plain.sums, SUMS_TOLERANCE)
                _compare("losses", result.losses, plain.losses, SUMS_TOLERANCE)
                _compare("gradients", self.gradients, gradients, GRADIENT_TOLERANCE)
        return recorded


@contextmanager
def _shaken(model: nn.Module) -> Iterator[None]:
    """Move a network's weights, in place, for as long as this lasts.

    Convolutions that begin as zero would hide what is before them.
    """
    weights = list(model.parameters())
    with torch.no_grad():
        before = [weight.clone() for weight in weights]
        for weight in weights:
            waves = torch.arange(weight.numel(), device=weight.device).to(weight.dtype).cos()
            weight.add_(waves.view(weight.shape), alpha=0.02)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)


@cache
def _recording_stream(device: torch.device) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)


def no_graph(config: TrainConfig, device: torch.device) -> str | None:
    """Return why a run's micro-batches cannot be a graph, or None if they can."""
    if not config.cuda_graph:
        return "cuda_graph is false"
    if device.type != "cuda":
        return f"the device is {device.type}"
    if "boundary" in config.loss.segmentation:
        return "loss.boundary measures distances on the CPU"
    return None


def _explained(error: BaseException) -> tuple[bool, str]:
    """Return whether memory was too small, and what went wrong, in a line.

    An error in a recording makes the recording's end fail too: the first one tells. It is not kept
    where it was caught, as an error that a local variable of its own traceback names is not freed,
    nor is what its pass had allocated.
    """
    while error.__context__ is not None:
        error = error.__context__
    return is_out_of_memory(error), first_line(error)


def _compare(what: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    scale = expected.double().norm().item()
    difference = (got.double() - expected.double()).norm().item()
    if not difference <= tolerance * scale:
        raise RuntimeError(f"its {what} differ by {difference:.1e} of {scale:.1e}")


def _varied(micro: MicroBatch, by: int, num_timesteps: int) -> MicroBatch:
    """Return another micro-batch of the same shapes, of which everything is another."""
    t = (micro.t * (2 * by + 1) + 17 * by) % num_timesteps
    is_key = micro.noise.dtype == torch.int64
    noise = (micro.noise + by) % 2**24 if is_key else micro.noise / -by
    return micro._replace(
        images=micro.images.flip(-by),
        masks=micro.masks.flip(-by),
        numbers=micro.numbers + by,
        noise=noise,
        coins=(micro.coins + 0.3 * by) % 1,
        t=t,
        importance=micro.importance * (1 + by),
        term_weights=micro.term_weights * (0.5 + by) + 0.1 * by,
    )

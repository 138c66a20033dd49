"""How a training ends before its last epoch, other than by being stopped."""

import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

from trainer.configfile import ConfigError

Arguments = ParamSpec("Arguments")
Item = TypeVar("Item")

OUT_OF_MEMORY = (
    "out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # of cublasCreate, which allocates its workspace
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",  # of cudnnCreate, as for cuBLAS
    "ALLOCATION_FAILED",  # cuDNN 9's CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
    "unable to find an engine to execute this computation",  # cuDNN: none whose workspace fits
    "CUFFT_ALLOC_FAILED",
    "CUFFT_INTERNAL_ERROR",  # of making a plan, which allocates its workspace
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "DefaultCPUAllocator",
)
"""What messages of torch and of CUDA's libraries have in common where memory is short; but for
torch's own allocator, all are RuntimeErrors."""


class Diverged(ArithmeticError):
    """A loss or gradient is not finite; the message names the step and the term."""


class StoreError(ConfigError):
    """A store is missing or damaged, whatever settings it is used with."""


class StoreChanged(StoreError):
    """A store holds other data than its content hash says: nothing may train on them."""


class Replaced(RuntimeError):
    """Another process trains in this run folder since; this one has stopped writing there."""


class OutOfMemory(MemoryError):
    """One image does not fit on the device."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that the memory of the device, or of the host, is too small."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def first_line(error: BaseException) -> str:
    """Return what an error says in its first line; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def naming_out_of_memory(
    function: Callable[Arguments, Iterator[Item]],
) -> Callable[Arguments, Iterator[Item]]:
    """Let a generator function raise OutOfMemory wherever memory is too small."""

    @functools.wraps(function)
    def named(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Iterator[Item]:
        try:
            yield from function(*args, **kwargs)
        except OutOfMemory:
            raise
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemory(f"the memory is too small: {first_line(error)}") from error

    return named

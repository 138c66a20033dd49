"""Stateless randomness: every draw comes from a name and a counter, so there is no state to save.

A run resumed anywhere, with any number of workers, draws what the uninterrupted run would have.
"""

import zlib

import numpy as np


def generator(seed: int, purpose: str, *index: int | str) -> np.random.Generator:
    """Return the generator of (seed, purpose, index), for example `(0, "noise", 1234)`.

    Distinct purposes never share a stream, so that switching augmentation on leaves timesteps
    and noise as they were. Strings (case ids) enter by their CRC-32.
    """
    words = [zlib.crc32(word.encode()) if isinstance(word, str) else word for word in index]
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *words])


def torch_seed(seed: int, purpose: str, *index: int | str) -> int:
    """Return a seed for `torch.manual_seed`, for what torch draws itself (weights, dropout)."""
    return int(generator(seed, purpose, *index).integers(2**63))

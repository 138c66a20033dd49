"""Which of the T timesteps sampling visits. Pure Python, so that a study is checked without torch.

A subset of the timesteps is a diffusion of its own, its betas derived from alphas_cumprod at the
kept timesteps (Nichol & Dhariwal 2021, sec. 4); training draws from all T, whatever is kept.
"""

import re
from itertools import accumulate, repeat


def timesteps(num_timesteps: int, respacing: int | str) -> list[int]:
    """Return the timesteps to sample at, falling.

    Args:
        num_timesteps: T.
        respacing: A number of steps, evenly spaced, T-1 the first (trailing
            spacing, Lin et al. 2024, arXiv 2305.08891, table 2), so that sampling begins at pure
            noise; or, by improved-diffusion's published rules, `ddimN`, N steps with an integer
            stride from 0, which begins below pure noise (ddim50 of 1000 at 980), or `a,b,c`, that
            many in each of as many equal sections.

    Raises:
        ValueError: There are not so many timesteps, or no integer stride gives N of them.
    """
    text = str(respacing).strip()
    if len(text) > 200:
        raise ValueError(
            f"timestep_respacing is {text[:20]}…, but must have at most 200 characters"
        )
    if re.fullmatch(r"\d+", text):
        return _trailing(num_timesteps, int(text))
    if found := re.fullmatch(r"ddim(\d+)", text):
        return _strided(num_timesteps, int(found[1]))
    if re.fullmatch(r"\d+( *, *\d+)+", text):
        return _sections(num_timesteps, [int(count) for count in text.split(",")])
    raise ValueError(
        f"timestep_respacing is {respacing!r}, but must be a number of steps, ddimN, or the "
        "numbers of steps in equal sections such as 10,20,30"
    )


def _trailing(num_timesteps: int, count: int) -> list[int]:
    if not 1 <= count <= num_timesteps:
        raise ValueError(
            f"timestep_respacing is {count}, but must be in 1..num_timesteps ({num_timesteps})"
        )
    # round(T i / N) - 1 in integers
    return [(2 * num_timesteps * i + count) // (2 * count) - 1 for i in range(count, 0, -1)]


def _strided(num_timesteps: int, count: int) -> list[int]:
    for stride in range(1, num_timesteps):
        kept = range(0, num_timesteps, stride)
        if len(kept) == count:
            return list(reversed(kept))
    valid = {len(range(0, num_timesteps, stride)) for stride in range(1, num_timesteps)}
    nearest = min(valid, key=lambda n: abs(n - count))
    raise ValueError(
        f"timestep_respacing is 'ddim{count}', but no integer stride takes {count} of "
        f"{num_timesteps} timesteps: ddim{nearest} does, and {count} without ddim always"
    )


def _sections(num_timesteps: int, counts: list[int]) -> list[int]:
    size, extra = divmod(num_timesteps, len(counts))
    kept, start = [], 0
    for i, count in enumerate(counts):
        length = size + (i < extra)
        if not 1 <= count <= length:
            raise ValueError(
                f"timestep_respacing: section {i + 1} of {len(counts)} has {length} timesteps, "
                f"but {count} are asked of it"
            )
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        # Summed, not multiplied, as published: halves round to the same side.
        places = accumulate(repeat(stride, count - 1), initial=0.0)
        kept += [start + round(place) for place in places]
        start += length
    return kept[::-1]

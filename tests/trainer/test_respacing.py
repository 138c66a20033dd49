"""Respacing against improved-diffusion's published rules, re-derived here."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.respacing import timesteps

# Of the numbers that an integer stride takes of 1000 timesteps, those from 36 up.
STRIDED = [1000, 500, 334, 250, 200, 167, 143, 125, 112, 100, 91, 84, 77, 72, 67, 63, 59, 56, 53]
STRIDED += [50, 48, 46, 44, 42, 40, 39, 38, 36]


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 4000).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T))))
def test_a_number_falls_evenly_from_pure_noise(counts):
    num_timesteps, respacing = counts
    chosen = timesteps(num_timesteps, respacing)
    assert chosen == timesteps(num_timesteps, str(respacing))
    assert len(chosen) == respacing
    assert chosen[0] == num_timesteps - 1 and chosen[-1] >= 0
    gaps = -np.diff([*chosen, -1])
    assert (np.abs(gaps - num_timesteps / respacing) < 1).all() and (gaps >= 1).all()


def test_ddim_n_is_every_stride_th_timestep_and_begins_below_pure_noise():
    assert timesteps(1000, "ddim50") == list(range(980, -1, -20))
    assert timesteps(1000, "ddim25") == list(range(960, -1, -40))
    assert timesteps(100, "ddim10") == list(range(90, -1, -10))


def test_ddim_n_takes_exactly_the_numbers_that_improved_diffusion_takes():
    taken = []
    for count in range(1, 1001):
        try:
            chosen = timesteps(1000, f"ddim{count}")
        except ValueError:
            continue
        taken.append(count)
        assert len(chosen) == count and len(set(np.diff(chosen))) <= 1
    published = {len(range(0, 1000, stride)) for stride in range(1, 1000)}
    assert set(taken) == published
    assert [count for count in reversed(taken) if count >= 36] == STRIDED


def sections(num_timesteps: int, counts: list[int]) -> list[int]:
    """Each section from its first timestep to its last, at a fractional stride that is summed."""
    kept, begin = set(), 0
    for i, count in enumerate(counts):
        size = num_timesteps // len(counts) + (1 if i < num_timesteps % len(counts) else 0)
        place, stride = 0.0, (size - 1) / max(1, count - 1)
        for _ in range(count):
            kept.add(begin + round(place))
            place += stride
        begin += size
    return sorted(kept, reverse=True)


@pytest.mark.parametrize(
    ("num_timesteps", "counts"),
    [
        (1000, [10, 20, 30]),
        (1000, [10, 10, 15, 20]),
        (300, [10, 15, 20]),
        (10, [1, 4]),
        (7, [3, 2]),
    ],
)
def test_sections_are_improved_diffusions(num_timesteps, counts):
    chosen = timesteps(num_timesteps, ",".join(map(str, counts)))
    assert chosen == sections(num_timesteps, counts)
    assert len(chosen) == sum(counts)


@pytest.mark.parametrize("num_timesteps", [37, 250, 999, 1000, 4000])
def test_sections_of_every_size_round_to_improved_diffusions_side(num_timesteps):
    for count in range(1, num_timesteps // 2 + 1):
        assert timesteps(num_timesteps, f"{count},{count}") == sections(num_timesteps, [count] * 2)


@pytest.mark.parametrize(
    ("respacing", "message"),
    [
        (0, r"timestep_respacing is 0, but must be in 1\.\.num_timesteps \(1000\)"),
        (1001, r"timestep_respacing is 1001, but must be in 1\.\.num_timesteps \(1000\)"),
        (
            "ddim300",
            r"no integer stride takes 300 of 1000 timesteps: ddim334 does, and 300 without",
        ),
        ("ddim1", r"no integer stride takes 1 of 1000 timesteps: ddim2 does"),
        ("501,1", r"section 1 of 2 has 500 timesteps, but 501 are asked of it"),
        ("fast", r"timestep_respacing is 'fast', but must be a number of steps, ddimN, or"),
        ("10,", r"timestep_respacing is '10,', but must be"),
        ("-5", r"timestep_respacing is '-5', but must be"),
    ],
)
def test_impossible_respacing_is_refused_in_one_line(respacing, message):
    with pytest.raises(ValueError, match=message) as refused:
        timesteps(1000, respacing)
    assert "\n" not in str(refused.value)

"""Pictures of a model: the right slices, as the model sees them, and what they claim is so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage

from tests.trainer.tiny import tiny_config
from trainer import drawing
from trainer.__main__ import cli
from trainer.configfile import ConfigError
from trainer.data.store import Store
from trainer.evaluation.ensemble import Prediction, fuse, predict
from trainer.images.panels import NOISE, panels, strip
from trainer.images.sample_images import (
    MEMBERS,
    PATH_STEPS,
    fixed_cases,
    paint,
    sample_slices,
)
from trainer.randomness import generator
from trainer.respacing import timesteps
from trainer.saved import checkpoint
from trainer.saved.model_io import TrainedModel, load
from trainer.training.train_state import TrainState

CPU = torch.device("cpu")
Make = Callable[..., TrainedModel]


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


@pytest.fixture(scope="module")
def make(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Return a model that has learned nothing, whose masks vary, from a run folder of its own."""

    def made(**settings: Any) -> TrainedModel:
        config = tiny_config(store.path, **{"sampling__threshold": 0.5} | settings)
        state = TrainState(config, store, CPU)
        torch.manual_seed(0)
        for parameter in state.ema.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        run_dir = tmp_path_factory.mktemp("run")
        checkpoint.write(run_dir / "ema.pt", state.for_use() | {"epoch": 12, "metrics": {}})
        return load(run_dir, CPU)

    return made


@pytest.fixture(scope="module")
def trained(make: Make) -> TrainedModel:
    return make(sampling__timestep_respacing=10, sampling__eta=1.0)


def test_small_middling_and_large_lesions(store: Store) -> None:
    held_out = sorted(c.lesion_ml for c in store.split(0)[1] if c.lesion_ml)
    chosen = [case.lesion_ml for case in fixed_cases(store, 0)]
    assert chosen == sorted(set(chosen)) and set(chosen) <= set(held_out)
    assert len(chosen) == min(3, len(held_out))


@pytest.mark.parametrize(("count", "places"), [(0, []), (1, [0]), (2, [0, 1]), (3, [0, 1, 2]),
                                               (9, [1, 4, 7]), (12, [2, 6, 10])])  # fmt: skip
def test_the_middle_of_each_third(
    store: Store, count: int, places: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    lesions = [c for c in store.cases if store.lesion_slice[c.rows].any()]
    cases = [
        type(c)(**c.__dict__ | {"lesion_ml": 100.0 - n, "case_id": str(n)})
        for n, c in enumerate((lesions * 3)[:count])
    ]
    monkeypatch.setattr(store, "split", lambda fold: ([], cases))
    assert [case.case_id for case in fixed_cases(store, 0)] == [
        str(count - 1 - place) for place in places
    ]


def test_each_case_on_its_slice_with_most_lesion(trained: TrainedModel, store: Store) -> None:
    for sample in sample_slices(trained, store, fixed_cases(store, 0)):
        masks = store.masks(sample.case.rows)
        areas = masks.sum((1, 2))
        assert areas[sample.index] == areas.max() > 0
        assert (sample.truth == masks[sample.index]).all()
        low, high = np.array([store.windows[name] for name in store.modalities]).T
        image = store.images([sample.case.first + sample.index])[0].astype(np.float32)
        share = np.clip((image.transpose(1, 2, 0) - low) / (high - low), 0, 1).transpose(2, 0, 1)
        np.testing.assert_allclose(sample.seen, 2 * share - 1, atol=1e-5)


def test_shown_where_the_lesion_stands_out(trained: TrainedModel, store: Store) -> None:
    samples = sample_slices(trained, store, fixed_cases(store, 0))
    assert len({sample.telling for sample in samples}) == 1, "the same for all cases"
    # The phantom's lesions are dark in CBF and bright in Tmax.
    assert store.modalities[samples[0].telling] in ("cbf", "cbv", "mtt", "tmax")


def test_windows_and_neighbours_are_the_model_s(make: Make, store: Store) -> None:
    windowed = make(
        data__modalities=["tmax", "ncct"],
        data__windows={"tmax": [2, 10]},
        data__context_slices=1,
        model__family="unet",
    )
    (sample, *_) = sample_slices(windowed, store, fixed_cases(store, 0))
    image = store.images([sample.case.first + sample.index], ["tmax"])[0, 0].astype(np.float32)
    np.testing.assert_allclose(sample.seen[0], np.clip((image - 2) / 8, 0, 1) * 2 - 1, atol=1e-5)
    assert len(sample.seen) == 2


def test_says_what_the_ensemble_says(trained: TrainedModel, store: Store) -> None:
    case = fixed_cases(store, 0)[0]
    (sample,) = sample_slices(trained, store, [case])
    row = case.first + sample.index
    inputs = TrainState(trained.config, store, CPU).inputs
    expected: Prediction = predict(
        trained.model,
        inputs.window(inputs.gather([row])),
        process=trained.process,
        sampling=trained.config.sampling,
        noise=[[generator(0, "picture", case.case_id, member)] for member in range(MEMBERS)],
        autocast=trained.autocast,
    )
    brain = store.brain([row])[0] > 0
    assert sample.uncertainty[brain].max() > 0.01, "members must differ"
    for ours, theirs in (
        (sample.probability, expected.probability),
        (sample.uncertainty, expected.uncertainty),
    ):
        np.testing.assert_array_equal(ours, np.where(brain, theirs[0, 0].numpy(), 0))
    np.testing.assert_allclose(sample.uncertainty[brain], sample.members.std(0)[brain], atol=1e-6)
    assert (sample.mask == (brain & (sample.probability >= 0.5))).all()
    both = (sample.mask & sample.truth).sum()
    assert sample.dice == pytest.approx(2 * both / (sample.mask.sum() + sample.truth.sum()))


def test_staple_is_of_the_slice(make: Make, store: Store) -> None:
    fused = make(sampling__fuse="staple", sampling__eta=1.0)
    samples = sample_slices(fused, store, fixed_cases(store, 0))
    for sample in samples:
        members = torch.from_numpy(sample.members)[:, None]
        brain = store.brain([sample.case.first + sample.index])[0] > 0
        expected = fuse(members, "staple").probability[0].numpy()
        np.testing.assert_allclose(sample.probability[brain], expected[brain], atol=1e-6)


@pytest.mark.parametrize("method", ["ddim", "ddpm", "dpmpp_2m"])
def test_the_path_ends_in_the_mask(make: Make, store: Store, method: str) -> None:
    model = make(sampling__method=method, sampling__timestep_respacing=10)
    for sample in sample_slices(model, store, fixed_cases(store, 0)):
        assert (sample.path_steps, sample.sampling_steps) == (10, 10)
        ts = [moment.t for moment in sample.path]
        assert len(ts) == PATH_STEPS and ts == sorted(ts, reverse=True)
        kept = timesteps(1000, 10)
        assert ts[0] == kept[0] == 999 and ts[-1] == kept[-1]
        np.testing.assert_array_equal((sample.path[-1].x_start + 1) / 2, sample.members[0])
        assert abs(sample.path[0].x_t.std() - 1) < 0.1, "begins as noise"


def test_a_path_of_its_own_where_sampling_is_too_short(make: Make, store: Store) -> None:
    one_step = make(sampling__timestep_respacing=1)
    (sample, *_) = sample_slices(one_step, store, fixed_cases(store, 0))
    assert (sample.path_steps, sample.sampling_steps) == (PATH_STEPS, 1)
    assert len(sample.path) == PATH_STEPS
    # From the same noise: its first step is the one step of the mask.
    first = (sample.path[0].x_start + 1) / 2
    np.testing.assert_allclose(first, sample.members[0], atol=1e-5)


def test_gives_up_in_time(trained: TrainedModel, store: Store, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="step 0 of 10"):
        paint(trained, store, tmp_path, limit_s=0)
    assert not [*tmp_path.iterdir()]


def pixels(picture: Image.Image) -> np.ndarray:
    assert picture.mode == "P"
    return np.asarray(picture)


def test_outlines_are_the_masks_borders(trained: TrainedModel, store: Store) -> None:
    for sample in sample_slices(trained, store, fixed_cases(store, 0)):
        drawn = pixels(panels(sample, trained, 0.5))
        # The truth's panel is the first of the second row: its pixels in the truth's colour.
        tile, outside = 270, 6
        top = drawn.shape[0] - 34 - tile
        panel = drawn[top : top + tile, outside : outside + tile]
        rows = ((np.arange(tile) + 0.5) * 32 / tile).astype(int)
        large = sample.truth[np.ix_(rows, rows)]
        border = large & ~ndimage.binary_erosion(large, iterations=2)
        assert (panel == drawing.TRUTH).any()
        # An enlarged pixel's edge may fall one place further.
        near = ndimage.binary_dilation(border, iterations=2)
        assert not (panel == drawing.TRUTH)[~near].any()
        inner = ndimage.binary_erosion(large, iterations=5)
        assert not (panel == drawing.TRUTH)[inner].any()


def test_maps_have_their_scale(trained: TrainedModel, store: Store) -> None:
    (sample, *_) = sample_slices(trained, store, fixed_cases(store, 0))
    drawn = pixels(panels(sample, trained, None))
    tile, step = 270, 276
    top = drawn.shape[0] - 34 - tile
    for number, values, colours in (
        (2, sample.probability, drawing.VIRIDIS),
        (3, sample.uncertainty / 0.5, drawing.CIVIDIS),
    ):
        panel = drawn[top : top + tile, 6 + number * step :][:, :tile].astype(int)
        inside = (panel >= colours) & (panel < colours + drawing.LEVELS)
        at = np.argwhere(sample.brain)[len(np.argwhere(sample.brain)) // 2]
        y, x = ((at + 0.5) * tile / 32).astype(int)
        level = (panel[y, x] - colours) / (drawing.LEVELS - 1)
        assert inside[y, x] and abs(level - values[tuple(at)]) < 0.05
        assert not inside[0, 0], "outside the brain there is nothing to show"


def test_the_strip_begins_with_the_noise(trained: TrainedModel, store: Store) -> None:
    (sample, *_) = sample_slices(trained, store, fixed_cases(store, 0))
    drawn = pixels(strip(sample, trained))
    tile = (drawing.WIDTH_PX - 6) // PATH_STEPS - 6
    panel = drawn[70 : 70 + tile, 6 : 6 + tile].astype(float) / (drawing.LEVELS - 1)
    rows = ((np.arange(tile) + 0.5) * 32 / tile).astype(int)
    noise = np.clip(sample.path[0].x_t[np.ix_(rows, rows)] / (2 * NOISE) + 0.5, 0, 1)
    assert np.corrcoef(panel.ravel(), noise.ravel())[0, 1] > 0.9


@pytest.mark.slow
def test_a_picture_and_a_path_of_each_fixed_case_the_same_each_time(
    trained: TrainedModel, store: Store, tmp_path: Path
) -> None:
    names = [case.case_id for case in fixed_cases(store, 0)]
    first = paint(trained, store, tmp_path / "a" / "b")
    assert [path.name for path in first] == [
        f"epoch0012-{name}{what}.png" for name in names for what in ("", "-path")
    ]
    again = paint(trained, store, tmp_path / "c")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    for path in first:
        with Image.open(path) as picture:
            assert 1000 < picture.width <= 1200
        assert path.stat().st_size < 100_000
    # What the validation measured is told where it is known.
    table = {"epoch": [12], "case_id": [names[0]], "dice": [0.25]}
    pq.write_table(pa.table(table), trained.path.parent / "cases.parquet")
    told = paint(trained, store, tmp_path / "d")
    (trained.path.parent / "cases.parquet").unlink()
    differ = [a.read_bytes() != b.read_bytes() for a, b in zip(first, told, strict=True)]
    assert differ == [True] + [False] * (len(first) - 1)


def test_a_model_without_diffusion_has_no_path(make: Make, store: Store, tmp_path: Path) -> None:
    files = paint(make(model__family="unet"), store, tmp_path)
    assert len(files) == len(fixed_cases(store, 0))
    assert not any("path" in path.name for path in files)


def test_samples_prints_what_it_painted(
    trained: TrainedModel, store: Store, tmp_path: Path
) -> None:
    words = ["samples", str(trained.path), "--out", str(tmp_path), "--device", "cpu"]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert result.output.splitlines() == [str(path) for path in paint(trained, store, tmp_path)]


def test_other_data_are_refused(make: Make, store: Store, tmp_path: Path) -> None:
    model = make(data__store_hash="0" * 64)
    with pytest.raises(ConfigError, match="this is not the data"):
        paint(model, store, tmp_path)

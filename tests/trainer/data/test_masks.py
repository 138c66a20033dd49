"""Which values of a data set's masks are lesion: labels, heights, colours, and what is refused."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Picture
from scipy import ndimage

from tests.trainer.data.trees import write
from trainer.configfile import ConfigError
from trainer.data.files import BadFile, Source, read_pixels
from trainer.data.formats.case import RawCase
from trainer.data.masks.decision import Decision, Wish, decide
from trainer.data.masks.reading import read_mask
from trainer.data.masks.survey import survey
from trainer.data.nifti import Volume, picture_axes

SHAPE = (30, 32, 4)
DISC = np.hypot(*np.mgrid[-15:15, -14:18]) < 7
"""145 pixels."""
BLOB = np.zeros(SHAPE, bool)
BLOB[:, :, 1:3] = DISC[:, :, None]


class DataSet:
    """Masks in files, each beside an image that is none."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.cases: list[RawCase] = []

    def add(self, values: NDArray, mode: str | None = None, suffix: str = ".png") -> "DataSet":
        """Write a mask: 3D as NIfTI, 2D (or colours) as a picture of a mode."""
        name = f"c{len(self.cases)}"
        if values.ndim == 3 and values.shape == SHAPE:
            path = write(self.folder / f"{name}.nii.gz", values, np.eye(4))
        else:
            path = self.folder / f"{name}{suffix}"
            Picture.fromarray(values, mode).save(path)
        self.cases.append(RawCase(name, {"image": Source(path)}, Source(path)))
        return self

    def decide(
        self, names: dict[int, str] | None = None, ignore: int | None = None, **wish: object
    ) -> Decision:
        parsed = Wish.parse(str(wish.get("labels", "")), wish.get("threshold"))
        return decide(Path("DATA"), survey(self.cases, 1), names or {}, ignore, parsed)

    def lesions(self, decision: Decision) -> list[int]:
        """Return the lesion voxels of each mask."""
        return [
            int(read_mask(case.mask, reference(case), decision.reading).lesion.sum())
            for case in self.cases
        ]


def reference(case: RawCase) -> Volume:
    shape = SHAPE if case.mask.path.name.endswith(".gz") else DISC.T.shape
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Volume(Source(Path("image")), data if data.ndim == 3 else data[..., None], np.eye(4))


@pytest.fixture
def data_set(tmp_path: Path) -> DataSet:
    return DataSet(tmp_path)


def jpeg(pixels: NDArray, quality: int = 60) -> NDArray:
    """Return what a JPEG leaves of a picture."""
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.asarray(Picture.open(file))


def large(radius: float = 30) -> NDArray:
    return (np.hypot(*np.mgrid[-48:48, -48:48]) < radius) * np.uint8(255)


@pytest.mark.parametrize("values", [{1}, {255}, {2}, {7}])
def test_one_value_is_lesion_without_a_word(data_set, values):
    data_set.add(BLOB * np.uint8(next(iter(values)))).add(BLOB * np.uint8(0))

    decision = data_set.decide()

    assert data_set.lesions(decision) == [290, 0]
    assert decision.said == [] and not decision.case_notes


@pytest.mark.parametrize("second", [2, 3, 128, 200])
def test_several_labels_are_merged_and_said(data_set, second):
    both = BLOB * np.uint8(1 if second < 100 else 255)
    both[:15] = (both[:15] > 0) * np.uint8(second)
    data_set.add(both)

    decision = data_set.decide()

    low, high = sorted({second, int(both[15:].max())})
    assert data_set.lesions(decision) == [290]
    [line] = decision.said
    assert line == f"labels: {low}, {high}, merged to one lesion; choose with --labels {low}"
    assert [label["value"] for label in decision.record["labels"]] == [str(low), str(high)]
    assert sum(label["voxels"] for label in decision.record["labels"]) == 290


def labelled(data_set: DataSet) -> DataSet:
    labels = BLOB.astype(np.uint8)
    labels[:, :, 2] *= 2
    labels[3, 3, 0] = 3
    return data_set.add(labels)


NAMES = {1: "core", 2: "penumbra", 3: "ignore"}


def test_labels_have_their_names_and_ignored_voxels_are_no_lesion(data_set):
    decision = labelled(data_set).decide(NAMES, 3)

    mask = read_mask(data_set.cases[0].mask, reference(data_set.cases[0]), decision.reading)

    assert mask.lesion.sum() == 290
    assert mask.ignored is not None and mask.ignored.sum() == 1
    [line] = decision.said
    assert line.startswith("labels: 1 core, 2 penumbra, merged to one lesion; choose with")
    assert line.endswith("; 3 ignore is not scored, and background in training")


def test_the_label_that_is_offered_is_a_lesion_where_names_tell(data_set):
    [line] = labelled(data_set).decide({1: "brain", 2: "stroke lesion", 3: "skull"}).said

    assert line.endswith("merged to one lesion; choose with --labels 2")


@pytest.mark.parametrize(
    "labels, voxels", [("2", 145), ("core", 145), ("1,3", 146), ("Core, 2", 290), ("0", 3549)]
)
def test_labels_are_chosen_by_number_or_name(data_set, labels, voxels):
    decision = labelled(data_set).decide(NAMES, labels=labels)

    assert data_set.lesions(decision) == [voxels]
    assert "lesion" in decision.said[0]


def test_a_region_of_several_labels_is_chosen_by_its_name(data_set):
    names = {1: "whole", 2: "whole + core", 3: "other"}

    assert data_set.lesions(labelled(data_set).decide(names, labels="whole")) == [290]


@pytest.mark.parametrize(
    "wish, rule",
    [
        ({"labels": "5"}, r"labels: 5: the masks have 1 core, 2 penumbra, 3 ignore"),
        ({"labels": "penumbre"}, r"did you mean penumbra\?"),
        ({"labels": "1,,2"}, "with commas between"),
        ({"labels": "1", "threshold": 2.0}, "not together with mask-threshold"),
        ({"threshold": 4.0}, "above 0 and at most 3"),
        ({"threshold": 0.0}, "above 0 and at most 3"),
        ({"threshold": float("nan")}, "above 0 and at most 3"),
    ],
)
def test_a_wish_that_cannot_be_is_one_line(data_set, wish, rule):
    with pytest.raises(ConfigError, match=rule) as error:
        labelled(data_set).decide(NAMES, **wish)

    assert len(error.value.lines) == 1


def test_instances_and_atlases_have_many_labels_that_are_areas(data_set):
    instances = np.zeros(SHAPE, np.uint16)
    for number in range(12):
        instances[2 * number + 2 : 2 * number + 4, 4:28] = 1 + number
    data_set.add(instances).add(instances * np.uint16(80))

    decision = data_set.decide()

    assert data_set.lesions(decision) == [24 * 24 * 4] * 2
    assert "(24 labels), merged" in decision.said[0]


@pytest.mark.parametrize("kind", ["png", "jpeg", "16 bit"])
def test_the_noise_of_a_jpeg_is_cut_at_half_of_the_height(data_set, kind):
    noisy = jpeg(large())
    if kind == "16 bit":
        noisy = noisy.astype(np.uint16) * np.uint16(257)
    suffix = ".jpg" if kind == "jpeg" else ".png"
    for values in (noisy, noisy * 0):
        data_set.add(values, suffix=suffix)

    decision = data_set.decide()

    clean = int((large() > 0).sum())
    path = data_set.cases[0].mask
    volume = Volume(Source(Path("image")), np.eye(96, dtype=np.float32)[..., None], np.eye(4))
    assert read_mask(path, volume, decision.reading).lesion.sum() == pytest.approx(clean, rel=0.01)
    assert decision.reading.cut == noisy.max() / 2
    [note] = decision.notes
    assert "cut at half of the height" in note


def test_empty_masks_with_noise_stay_empty_beside_others_and_are_named(data_set):
    faint = jpeg(large())
    speck = np.zeros_like(faint)
    speck[0, :12] = range(12)
    data_set.add(faint).add(speck)

    decision = data_set.decide()

    assert decision.reading.cut > 100
    assert decision.case_notes["c1"][0].detail == "values up to 11"


def test_a_further_mask_is_surveyed_as_any_mask_is(data_set):
    data_set.add(large()).add(jpeg(large(20)))
    [first, noisy] = data_set.cases
    data_set.cases = [replace(first, more_masks=(noisy.mask,))]
    decision = data_set.decide()

    volume = Volume(Source(Path("image")), np.eye(96, dtype=np.float32)[..., None], np.eye(4))
    lesion = read_mask(noisy.mask, volume, decision.reading).lesion
    assert lesion.sum() == pytest.approx((large(20) > 0).sum(), rel=0.02)
    assert "c0 (c1.png): cut at half" in decision.notes[0]

    ct = np.where(BLOB, 35, -1000).astype(np.int16)
    data_set.cases = []
    data_set.add(BLOB * np.uint8(1)).add(BLOB * np.uint8(1)).add(BLOB * np.uint8(1)).add(ct)
    [first, *others, other] = data_set.cases
    data_set.cases = [replace(first, more_masks=(other.mask,)), *others]
    assert data_set.decide().refused["c0"].startswith(f"{other.mask.path}: has ")


def test_a_threshold_makes_no_lesion_of_what_is_ignored(data_set):
    decision = labelled(data_set).decide(NAMES, 3, threshold=1.5)

    mask = read_mask(data_set.cases[0].mask, reference(data_set.cases[0]), decision.reading)

    assert mask.lesion.sum() == 145
    assert mask.ignored is not None and mask.ignored.sum() == 1


@pytest.mark.parametrize("top", [255, 100, 65535, 1.0, 0.9])
def test_soft_edges_are_refused_until_a_threshold_is_given(data_set, top):
    soft = ndimage.gaussian_filter(BLOB.astype(float), (1.5, 1.5, 0)) * top
    values = soft.astype(np.float32) if top <= 1 else np.rint(soft).astype(np.uint16)
    data_set.add(values)

    with pytest.raises(ConfigError, match=r"25 and 75 % .* --mask-threshold") as error:
        data_set.decide()
    assert str(error.value).startswith("DATA: masks have ")

    decision = data_set.decide(threshold=top / 2)
    assert data_set.lesions(decision) == [int((values >= top / 2).sum())]
    assert "--mask-threshold" in decision.said[0]


def test_shares_of_a_voxel_with_few_between_are_cut_at_a_half(data_set):
    shares = BLOB.astype(np.float32)
    shares[5, 5, 1:3] = (0.3, 0.6)

    decision = data_set.add(shares).decide()

    assert data_set.lesions(decision) == [291]
    assert decision.reading.cut == 0.5 and decision.notes


def test_a_label_beside_white_is_noise_or_a_label(data_set):
    void = BLOB * np.uint8(1)
    void[10:12, 10, 1] = 255

    with pytest.raises(ConfigError, match=r"1, 255 .*labels or noise.* --labels .*--mask-thresh"):
        data_set.add(void).decide()
    assert data_set.lesions(data_set.decide(labels="1")) == [int((void == 1).sum())]
    assert data_set.lesions(data_set.decide({1: "lesion", 255: "void"})) == [290]


def test_a_few_shades_at_the_edges_are_no_labels(data_set):
    halved = large().reshape(48, 2, 48, 2).mean((1, 3))
    data_set.add(np.rint(halved).astype(np.uint8))
    assert len(np.unique(halved)) <= 5

    with pytest.raises(ConfigError, match="too many voxels between 25 and 75"):
        data_set.decide()


def test_masks_of_0_and_1_beside_masks_of_0_and_255_are_both_read(data_set):
    data_set.add(BLOB * np.uint8(1)).add(BLOB * np.uint8(255))

    assert data_set.lesions(data_set.decide()) == [290, 290]


def test_one_image_among_masks_is_refused_and_the_others_are_read(data_set):
    image = np.random.default_rng(0).normal(900, 200, SHAPE).astype(np.float32)
    data_set.add(BLOB * np.uint8(1)).add(BLOB * np.uint8(1)).add(BLOB * np.uint8(1)).add(image)

    decision = data_set.decide()

    assert [*decision.refused] == ["c3"]
    assert decision.reading.cut == 0.5


def test_a_ct_in_the_place_of_a_mask_is_refused(data_set):
    ct = np.where(BLOB, 35, -1000).astype(np.int16)

    assert "values from -1000 to 35" in data_set.add(ct).decide().refused["c0"]


def test_a_mask_of_which_0_is_the_largest_value_is_refused(data_set):
    data_set.add(BLOB * np.int16(-1))

    with pytest.raises(BadFile, match="has values from -1 to 0"):
        read_mask(data_set.cases[0].mask, reference(data_set.cases[0]))


def test_the_image_itself_is_no_mask(data_set, tmp_path):
    values = np.random.default_rng(0).integers(0, 9, SHAPE).astype(np.float32)
    data_set.add(values)
    image = Volume(Source(Path("image.nii.gz")), values, np.eye(4))

    with pytest.raises(BadFile, match=r"c0\.nii\.gz: has the values of the image image\.nii\.gz"):
        read_mask(data_set.cases[0].mask, image)


def test_nan_is_a_masks_background_where_nothing_else_is(data_set):
    values = np.where(BLOB, 1, np.nan).astype(np.float32)
    data_set.add(values)
    assert data_set.lesions(data_set.decide()) == [290]

    values[0, 0, 0] = 0
    data_set.add(values)
    with pytest.raises(BadFile, match=r"non-finite voxels .* beside a background of 0"):
        data_set.lesions(data_set.decide())


def test_inverted_masks_are_refused_unless_it_is_wanted(data_set):
    data_set.add(~BLOB * np.uint8(255)).add(~BLOB * np.uint8(255))

    with pytest.raises(ConfigError, match=r"all 2 masks look inverted.*--labels 0 .*--labels 255"):
        data_set.decide()
    assert data_set.lesions(data_set.decide(labels="0")) == [290, 290]
    assert data_set.lesions(data_set.decide(labels="255")) == [3840 - 290] * 2


def test_what_nobody_annotated_may_cover_the_border(data_set):
    data_set.add(np.where(BLOB, 1, 2).astype(np.uint8))

    assert data_set.lesions(data_set.decide({1: "lesion", 2: "ignore"}, 2)) == [290]


def test_one_inverted_mask_is_a_note(data_set):
    data_set.add(~BLOB * np.uint8(1)).add(BLOB * np.uint8(1))

    decision = data_set.decide()

    assert "inverted" in decision.case_notes["c0"][0].kind and "c1" not in decision.case_notes


def colours(**areas: tuple[int, int, int]) -> NDArray:
    pixels = np.zeros((*DISC.shape, 3), np.uint8)
    pixels[:] = areas.get("ground", (0, 0, 0))
    pixels[DISC] = areas["lesion"]
    if "other" in areas:
        pixels[0, :5] = areas["other"]
    return pixels


def test_colours_on_black_are_labels_with_names(data_set):
    data_set.add(colours(lesion=(255, 0, 0), other=(0, 255, 0))).add(DISC * np.uint8(255))

    decision = data_set.decide()

    assert data_set.lesions(decision) == [150, 145]
    assert "#ff0000 red, #ffffff white, merged" in decision.said[0]
    assert data_set.lesions(data_set.decide(labels="red")) == [145, 0]
    assert data_set.lesions(data_set.decide(labels="#ff0000,white")) == [145, 145]


def test_a_coloured_lesion_on_white_asks_for_its_colour(data_set):
    data_set.add(colours(ground=(255, 255, 255), lesion=(255, 0, 0)))

    with pytest.raises(ConfigError, match=r"look inverted.*colour.*#ff0000 red, #ffffff white"):
        data_set.decide()
    assert data_set.lesions(data_set.decide(labels="red")) == [145]


def test_red_whose_edges_a_jpeg_blurred_asks_for_a_threshold(data_set):
    red = np.zeros((96, 96, 3), np.uint8)
    red[..., 0] = large()
    data_set.add(jpeg(red, 75))
    with pytest.raises(ConfigError, match=r"--mask-threshold 127\.5"):
        data_set.decide()
    decision = data_set.decide(threshold=127.5)

    volume = Volume(Source(Path("image")), np.eye(96, dtype=np.float32)[..., None], np.eye(4))
    lesion = read_mask(data_set.cases[0].mask, volume, decision.reading).lesion
    assert lesion.sum() == pytest.approx((large() > 0).sum(), rel=0.02)


def palette(indices: NDArray, colours: list[int]) -> Picture.Image:
    picture = Picture.fromarray(indices.astype(np.uint8), "P")
    picture.putpalette(colours)
    return picture


@pytest.mark.parametrize("black", [True, False])
def test_a_palettes_indices_are_labels_where_its_colours_say_nothing(data_set, black):
    ground = [0, 0, 0]
    picture = palette(DISC, [*ground, *([0, 0, 0] if black else [128, 0, 0])])
    path = data_set.folder / "c0.png"
    picture.save(path)
    data_set.cases.append(RawCase("c0", {}, Source(path)))

    assert data_set.lesions(data_set.decide()) == [145]


def test_a_palette_of_which_a_part_says_nothing_is_refused(data_set):
    path = data_set.folder / "c0.png"
    indices = DISC.astype(int)
    indices[0] = 2
    palette(indices, [0, 0, 0, 128, 0, 0, 0, 0, 0]).save(path)

    with pytest.raises(BadFile, match="its palette has one colour for several of 3 indices"):
        read_pixels(path)


def test_a_palette_that_begins_with_white_is_read_by_its_colours(data_set):
    path = data_set.folder / "c0.png"
    palette(~DISC, [255, 255, 255, 0, 0, 0]).save(path)
    data_set.cases.append(RawCase("c0", {}, Source(path)))

    assert data_set.lesions(data_set.decide()) == [145]


def test_the_axes_of_a_picture_are_those_of_its_image(data_set):
    lesion = np.zeros(DISC.shape, np.uint8)
    lesion[2, 5] = 255
    data_set.add(lesion)

    mask = read_mask(data_set.cases[0].mask, reference(data_set.cases[0]))

    expected = picture_axes(lesion.astype(np.float32)) > 0
    np.testing.assert_array_equal(mask.lesion, expected)

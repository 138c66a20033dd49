"""The prepared data set: written once by `segtune prepare`, memory-mapped by every trial.

A store is a folder:

    manifest.json          what it holds: cases, modalities, windows, splits, content hash
    splits_final.json      its folds as nnU-Net reads them
    slices.arrow           one row a slice: case_id, slice, spacing_mm, split, fold, lesion_pixels
    cases/<case_id>.arrow  one row a slice: a float16 column per modality, uint8 mask and brain
    cases/<case_id>.npz    the untouched mask and the brain mask on the reference grid, bit-packed
    contact_sheet.png      every case's largest lesion slice; lesion_volumes.png: the histogram
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, DTypeLike, NDArray

from trainer.configfile import ConfigError, did_you_mean
from trainer.data.geometry import Box, to_mask, to_volume
from trainer.data.splits import Place, fold_problem
from trainer.exceptions import StoreError
from trainer.files.regular_files import check_regular, open_regular

MANIFEST = "manifest.json"
FORMAT = "segtune-store-1"
Scalar = TypeVar("Scalar", bound=np.generic)
DAMAGED = (
    AttributeError, IndexError, KeyError, OSError, RecursionError, TypeError, ValueError,
    pa.ArrowException,
)  # fmt: skip
"""What reading a damaged manifest or Arrow file raises."""


@dataclass(frozen=True)
class Case:
    """One patient's volume. `first` and `num_slices` say which rows of the store are its slices."""

    case_id: str
    split: str
    """train, or test: sealed, and in no fold."""
    fold: int | None
    """None too for what every fold trains on, as a person's splits may say."""
    first: int
    num_slices: int
    spacing_mm: tuple[float, float, float]
    """Of the store's slices: between rows, columns and slices."""
    native_shape: tuple[int, int, int]
    """(X, Y, Z) of the reference image, canonical axes (right, anterior, superior)."""
    native_spacing_mm: tuple[float, float, float]
    lesion_ml: float
    """On the reference grid."""
    clinical: dict[str, str | float | None]
    """The patient's row of the clinical table, as it was found; None where a value is missing."""
    box: Box
    patient: str = ""
    """Whose it is; empty in a store of 0.1."""
    images_hash: str | None = None
    """Of its images as they were read; None where they are constant, or it is of 0.1."""
    affine: tuple[tuple[float, ...], ...] | None = None
    """(4, 4), of the reference image, from voxel indices (canonical axes) to mm; None in a store of
    0.1."""

    @property
    def place(self) -> Place:
        """Fold, `test`, or `train` where every fold trains on it."""
        return "test" if self.split == "test" else "train" if self.fold is None else self.fold

    @property
    def rows(self) -> range:
        """Rows of the store that are this case's slices, from inferior to superior."""
        return range(self.first, self.first + self.num_slices)


class Store:
    """A prepared data set, memory-mapped: opening reads no image, and processes share one copy."""

    def __init__(self, path: Path, manifest: dict[str, Any]):
        self.path = path
        self.content_hash: str = manifest["content_hash"]
        self.image_size: int = manifest["image_size"]
        self.modalities: tuple[str, ...] = tuple(manifest["modalities"])
        self.windows: dict[str, tuple[float, float]] = {
            modality: (low, high) for modality, (low, high) in manifest["windows"].items()
        }
        """Default window by modality: the physical values that become -1 and 1."""
        self.factors: dict[str, tuple[float, float]] = {
            name: (factor, offset) for name, (factor, offset) in manifest.get("scale", {}).items()
        }
        """What a modality's values in the files were multiplied with, and what was added then."""
        self.cases: tuple[Case, ...] = cases_of(manifest)
        for case in self.cases:
            if Path(case.case_id).name != case.case_id or case.case_id == "..":
                raise StoreError([f"{path}: damaged store: case {case.case_id!r} is no file name"])
        self.num_slices = sum(case.num_slices for case in self.cases)
        self._case_of_row = np.repeat(
            np.arange(len(self.cases)), [case.num_slices for case in self.cases]
        )
        self._first = np.array([case.first for case in self.cases], np.int64)
        self._last = np.array([case.rows[-1] for case in self.cases], np.int64)
        self._columns = [self._map(case) for case in self.cases]
        slices = map_batch(path / "slices.arrow")
        self.lesion_slice: NDArray[np.bool_] = _array(slices.column("lesion_pixels"), np.int32) > 0
        """(num_slices,): the slice has lesion pixels."""

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a folder that `segtune prepare` wrote.

        Raises:
            StoreError: It is no store, or not a complete one.
            OSError: It cannot be read: the fault of its disk, of the network or of this process.
        """
        path = Path(path)
        try:
            manifest = _manifest(path / MANIFEST)
            if (found := manifest["format"]) != FORMAT:
                raise StoreError(
                    [f"{path}: is a {found}, but must be a {FORMAT}: prepare it again"]
                )
            return cls(path, manifest)
        except (FileNotFoundError, NotADirectoryError) as error:
            found = re.search(r"[^/\\']+\.(json|arrow)", str(error))
            missing = found[0] if found else MANIFEST
            raise StoreError(
                [f"{path}: not a prepared store ({missing} is missing): segtune prepare makes one"]
            ) from error
        except ConfigError:
            raise
        except DAMAGED as error:
            if isinstance(error, OSError) and error.errno:  # Arrow raises others of what is damaged
                raise
            raise StoreError([f"{path}: damaged store: {' '.join(str(error).split())}"]) from error

    def split(self, fold: int) -> tuple[list[Case], list[Case]]:
        """Return the (training, validation) cases of a fold; test cases are in neither.

        Raises:
            ConfigError: There is nothing to train on or to validate with, or no lesion in it.
        """
        problem = fold_problem(
            {case.case_id: case.place for case in self.cases},
            {case.case_id: case.lesion_ml for case in self.cases},
            fold,
        )
        if problem:
            raise ConfigError([f"{self.path}: {problem}"])
        cases = [case for case in self.cases if case.split == "train"]
        return (
            [case for case in cases if case.fold != fold],
            [case for case in cases if case.fold == fold],
        )

    def test_cases(self) -> list[Case]:
        """Return the sealed test cases. Only a final confirmation may look at them."""
        return [case for case in self.cases if case.split == "test"]

    def ends(self, rows: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first and the last row of the case that each of (n,) rows belongs to."""
        numbers = self._case_of_row[np.asarray(rows, np.int64).reshape(-1)]
        return self._first[numbers], self._last[numbers]

    def images(
        self, rows: ArrayLike, modalities: Sequence[str] | None = None
    ) -> NDArray[np.float16]:
        """Gather slices in physical units.

        Args:
            rows: (n,) integers below num_slices.
            modalities: Channels in this order; None takes all.

        Returns:
            float16 (n, M, H, W): HU, mL/100 g/min, mL/100 g, s, 1e-3 mm2/s, or scaled MRI.
        """
        names = self.modalities if modalities is None else tuple(modalities)
        for name in names:
            if name not in self.modalities:
                raise ConfigError(
                    [f"{self.path}: no modality {name!r}; it has {', '.join(self.modalities)}"
                     f"{did_you_mean(name, self.modalities)}"]
                )  # fmt: skip
        return self._gather(rows, [f"image:{name}" for name in names], np.dtype(np.float16))

    def masks(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """Gather lesion masks: uint8 (n, H, W) in {0, 1}."""
        return self._gather(rows, ["mask"], np.dtype(np.uint8))[:, 0]

    def brain(self, rows: ArrayLike) -> NDArray[np.uint8]:
        """Gather brain masks: uint8 (n, H, W) in {0, 1}."""
        return self._gather(rows, ["brain"], np.dtype(np.uint8))[:, 0]

    def columns(self, number: int) -> dict[str, NDArray[Any]]:
        """Return a case's slices by column, in the file's order: each (num_slices, H, W)."""
        return self._columns[number]

    def native_mask(self, case: Case) -> NDArray[np.bool_]:
        """Return the untouched lesion mask: bool (X, Y, Z), canonical axes."""
        return self._native(case, "mask")

    def native_brain(self, case: Case) -> NDArray[np.bool_]:
        """Return the brain mask on the reference grid: bool (X, Y, Z), canonical axes."""
        return self._native(case, "brain")

    def to_native(self, case: Case, prob: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring a case's (num_slices, H, W) values back to its reference grid.

        Returns:
            float32 (X, Y, Z), canonical axes: bilinear in-plane, 0 outside the box.
        """
        assert prob.shape[0] == case.num_slices, (prob.shape, case.num_slices)
        return to_volume(prob, case.box, case.native_spacing_mm, case.native_shape)

    def to_native_mask(
        self, case: Case, prob: NDArray[np.float32], threshold: float
    ) -> NDArray[np.bool_]:
        """Return where `to_native` is at least the threshold, sooner: bool (X, Y, Z)."""
        assert prob.shape[0] == case.num_slices, (prob.shape, case.num_slices)
        return to_mask(prob, threshold, case.box, case.native_spacing_mm, case.native_shape)

    def _map(self, case: Case) -> dict[str, NDArray[Any]]:
        batch = map_batch(self.path / "cases" / f"{case.case_id}.arrow")
        shape = (case.num_slices, self.image_size, self.image_size)
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name in (*(f"image:{each}" for each in self.modalities), "mask", "brain"):
            if name not in columns:
                raise ValueError(f"{case.case_id}.arrow has no {name}")
        return {
            name: _array(
                column.values, np.float16 if name.startswith("image:") else np.uint8
            ).reshape(shape)
            for name, column in columns.items()
        }

    def _gather(
        self, rows: ArrayLike, columns: list[str], dtype: np.dtype[Scalar]
    ) -> NDArray[Scalar]:
        rows = np.asarray(rows, np.int64).reshape(-1)
        out = np.empty((len(rows), len(columns), self.image_size, self.image_size), dtype)
        for target, row in zip(out, rows, strict=True):
            number = self._case_of_row[row]
            for channel, column in enumerate(columns):
                target[channel] = self._columns[number][column][row - self.cases[number].first]
        return out

    def _native(self, case: Case, name: str) -> NDArray[np.bool_]:
        path = self.path / "cases" / f"{case.case_id}.npz"
        # By itself, np.load leaves a file open that turns out to be no archive.
        with open_regular(path) as file, np.load(file, allow_pickle=False) as packed:
            bits = np.unpackbits(packed[name], count=int(np.prod(case.native_shape)))
        return bits.view(bool).reshape(case.native_shape)


def _manifest(path: Path) -> dict[str, Any]:
    with open_regular(path) as file:
        manifest = json.loads(file.read())
    if not isinstance(manifest, dict):
        raise StoreError([f"{path}: damaged store: no JSON object"])
    return manifest


def cases_of(manifest: Mapping[str, Any]) -> tuple[Case, ...]:
    """Return the cases that a manifest lists."""
    return tuple(_case(record) for record in manifest["cases"])


def map_batch(path: Path) -> pa.RecordBatch:
    """Map an Arrow IPC file's only record batch; its buffers lie in the map, nothing is copied."""
    check_regular(path)
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).get_batch(0)


def _array(values: pa.Array, dtype: DTypeLike) -> NDArray[Any]:
    """View Arrow values without a copy. Arrow's own to_numpy would import pandas: half a second."""
    return np.frombuffer(values.buffers()[1], dtype)[values.offset : values.offset + len(values)]


def _case(record: dict[str, Any]) -> Case:
    record = {
        "patient": "",
        "images_hash": None,
        "affine": None,
        **record,
    }  # 0.1 did not write these
    lists = {name: tuple(value) for name, value in record.items() if isinstance(value, list)}
    known = {name: record[name] for name in Case.__dataclass_fields__}
    return Case(
        **known | {k: v for k, v in lists.items() if k in known} | {"box": Box(**record["box"])}
    )

"""HD95: how far apart the surfaces of two masks are."""

import numpy as np
from numpy.typing import NDArray

from trainer.data.geometry import bounding_box

PERCENTILE = 95

MAX_SURFACE = 100_000
"""Surface voxels from which a distance is measured; of more, as in a mask that is noise, every n-th
stands for all: the percentile's rank moves by less than 0.3 %."""

DENSE = 100_000
"""Surface voxels from which their neighbourhood is searched before a tree of them is built."""

TURN = np.array([[2.0, -2.0, 1.0], [1.0, 2.0, 2.0], [2.0, 1.0, -2.0]]) / 3
"""A rotation that brings no axis near another."""

NEAR_MM = 5.0
"""As far as that search goes."""

CELL_MM = 8.0
"""Side of the cells whose centres tell which distances cannot be the percentile."""


def hd95_mm(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> float:
    """Return the 95th percentile Hausdorff distance of two masks, neither of them empty.

    The larger of the two directed distances, each the 95th percentile of the distances from one
    mask's surface voxels to the nearest of the other's, as in MONAI. A surface voxel has a
    neighbour, by face, outside its mask or the image.

    Args:
        truth: Lesion mask, bool, (x, y, z).
        prediction: Predicted mask, the same shape.
        spacing_mm: Voxel size.
    """
    a, b = (_Surface(mask, spacing_mm) for mask in (truth, prediction))
    return max(_directed_mm(a, b), _directed_mm(b, a))


class _Surface:
    """The surface voxels of a mask.

    Attributes:
        inside: Which voxels of the mask's bounding box they are, bool.
        corner: Of that box, in voxels.
        count: Their number.
    """

    def __init__(self, mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]):
        box = bounding_box(mask)
        self.spacing_mm = np.array(spacing_mm)
        self.corner = np.array([along.start for along in box])
        self.inside = _surface(np.ascontiguousarray(mask[box]))
        self.count = np.count_nonzero(self.inside)

    def voxels(self, step: int = 1) -> NDArray[np.intp]:
        """Return where every `step`-th lies in the image, (n, 3)."""
        planes, passed = self.inside.reshape(len(self.inside), -1), 0
        numbers = []
        for first, plane in zip(range(0, self.inside.size, planes.shape[1]), planes, strict=True):
            inside = np.flatnonzero(plane)  # of a plane, so that it stays in the cache
            numbers.append(inside[-passed % step :: step] + first)
            passed += len(inside)
        voxels = np.unravel_index(np.concatenate(numbers), self.inside.shape)
        positions: NDArray[np.intp] = np.stack(voxels, 1) + self.corner
        return positions


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask's voxels with a neighbour, by face, outside it, or at the array's faces."""
    inner = mask.copy()
    # A shift of the flat array is one along an axis, but at faces, which are no inner voxels.
    flat, inner_flat = mask.reshape(-1), inner.reshape(-1)
    for stride in (mask.shape[1] * mask.shape[2], mask.shape[2], 1):
        inner_flat[stride:] &= flat[:-stride]
        inner_flat[:-stride] &= flat[stride:]
    for axis in range(3):
        faces = np.moveaxis(inner, axis, 0)
        faces[0] = faces[-1] = False
    surface: NDArray[np.bool_] = mask ^ inner
    return surface


def _directed_mm(start: _Surface, end: _Surface) -> float:
    """Return the percentile of the distances from one surface to the nearest voxel of another."""
    voxels = start.voxels(-(-start.count // MAX_SURFACE))
    rank = min(int((len(voxels) - 1) * (PERCENTILE / 100)) + 1, len(voxels) - 1)
    if end.count > DENSE:
        near_mm = _near_mm(voxels, end, rank)
        if np.count_nonzero(near_mm < np.inf) > rank:
            return float(np.percentile(near_mm, PERCENTILE))
    return _percentile_mm(voxels * start.spacing_mm, _Tree(end.voxels() * end.spacing_mm), rank)


class _Tree:
    """A k-d tree of points, (n, 3) in mm.

    It is turned where they are many, so that no face of a mask lies along its splits: within a flat
    face these bound no distance, and a search would visit all of it, in a mask that fills the head
    for seconds.
    """

    def __init__(self, points: NDArray[np.float64]):
        self._points = points
        self._turn = TURN if len(points) > DENSE else np.eye(3)
        from scipy.spatial import KDTree  # half a second, which readers of scores do not need

        self._tree = KDTree(points @ self._turn, balanced_tree=False, compact_nodes=False)

    def distances_mm(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of each of (m, 3) points to the nearest of the tree's."""
        _, nearest = self._tree.query(points @ self._turn)
        return _length(points - self._points[nearest])


def _length(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the length of each of (n, 3) vectors."""
    length: NDArray[np.float64] = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return length


def _near_mm(voxels: NDArray[np.intp], end: _Surface, rank: int) -> NDArray[np.float64]:
    """Measure distances of up to `NEAR_MM`, the shortest first, until `rank` + 1 are known.

    Returns:
        (n,), infinity where a voxel's is not known: none of these is shorter than those that are.
    """
    reach = (NEAR_MM / end.spacing_mm).astype(int)
    low, high = voxels.min(0) - reach, voxels.max(0) + reach + 1
    size, corner = np.array(end.inside.shape), end.corner
    region = np.zeros(high - low, bool)
    first, last = np.maximum(low, corner), np.minimum(high, corner + size)
    if (first >= last).any():
        return np.full(len(voxels), np.inf)
    into, out_of = (
        tuple(slice(a, b) for a, b in zip(first - origin, last - origin, strict=True))
        for origin in (low, corner)
    )
    region[into] = end.inside[out_of]

    steps = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1)
    steps = steps.reshape(-1, 3)
    lengths_mm = np.linalg.norm(steps * end.spacing_mm, axis=1)
    order = np.argsort(lengths_mm, kind="stable")
    order = order[lengths_mm[order] <= NEAR_MM]
    strides = np.array([region.shape[1] * region.shape[2], region.shape[2], 1])
    flat, at, left = region.reshape(-1), (voxels - low) @ strides, np.arange(len(voxels))
    distances_mm = np.full(len(voxels), np.inf)
    for step, length_mm in zip(steps[order] @ strides, lengths_mm[order], strict=True):
        hit = flat[at + step]
        distances_mm[left[hit]] = length_mm
        at, left = at[~hit], left[~hit]
        if len(voxels) - len(left) > rank:
            break
    return distances_mm


def _percentile_mm(points: NDArray[np.float64], tree: _Tree, rank: int) -> float:
    """Return the percentile of the points' distances to the tree's; only some are measured.

    No distance differs from that of the cell's centre by more than the point lies off the centre,
    which tells of most points on which side of the percentile they are.

    Args:
        points: (n, 3), in mm.
        tree: What distances are measured to.
        rank: Of the larger of the two distances that the percentile lies between, from 0.
    """
    cell = (points / CELL_MM).astype(np.intp)
    number = np.ravel_multi_index(tuple(cell.T), tuple(cell.max(0) + 1))
    occupied = np.bincount(number) > 0
    index = (np.cumsum(occupied) - 1)[number]
    centres = np.empty((index.max() + 1, 3))
    centres[index] = (cell + 0.5) * CELL_MM
    from_centre_mm = tree.distances_mm(centres)
    off_mm = _length(points - centres[index]) + 1e-6  # for what rounding adds
    least, most = from_centre_mm[index] - off_mm, from_centre_mm[index] + off_mm
    at_least = np.partition(least, max(rank - 1, 0))[max(rank - 1, 0)]
    at_most = np.partition(most, rank)[rank]
    distances_mm = np.where(most < at_least, 0, np.inf)
    near = (most >= at_least) & (least <= at_most)
    distances_mm[near] = tree.distances_mm(points[near])
    return float(np.percentile(distances_mm, PERCENTILE))

"""The physiology of the phantom: anatomy, an occlusion, perfusion, and what CT shows of it.

Anatomy is the MNI152 tissue maps that nilearn ships, moved and warped for every case. An occluded
artery leaves part of its territory hypoperfused: blood arrives late (Tmax) and passes slowly (MTT)
there. Only where collaterals fail, in the core, is the blood volume (CBV) low too, and only the
core becomes the lesion of the mask. CBF follows from the central volume theorem, CBF = CBV / MTT.

No single map shows the lesion. Look-alikes have one sign of it each: penumbra and a narrowed
carotid are late but have their blood volume; an old infarct and the CSF have none, but are not
late; leukoaraiosis is dark on CT. So a threshold fails where a network that combines them does not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import ndimage

from trainer.data.brain import largest_piece

SPACING_MM = np.array([3.0, 3.0, 6.0])
SHAPE = (66, 74, 28)
ORIGIN_MM = np.array([-97.5, -127.5, -72.0])
"""MNI position of the first voxel's centre."""

# Where each artery's blood ends, right hemisphere, MNI mm; the left one mirrors it. Tissue belongs
# to the nearest point: coarse, but lesions keep to one side and to one artery.
TERRITORIES: dict[str, list[tuple[int, int, int]]] = {
    "MCA superior": [(45, 8, 28), (48, -15, 42), (40, 30, 8)],
    "MCA inferior": [(55, -40, 15), (50, -12, -15), (42, -58, 25)],
    "MCA deep": [(24, 2, 6)],
    "ACA": [(8, 42, 22), (8, 10, 55), (8, 50, -5)],
    "PCA": [(14, -82, 5), (28, -45, -8), (10, -18, 8)],
    "cerebellar": [(25, -62, -38), (6, -32, -38)],
}
OCCLUSIONS: dict[str, tuple[tuple[str, ...], float]] = {
    "M1": (("MCA superior", "MCA inferior", "MCA deep"), 0.4),
    "M2 superior": (("MCA superior",), 0.25),
    "M2 inferior": (("MCA inferior",), 0.2),
    "PCA": (("PCA",), 0.08),
    "ACA": (("ACA",), 0.07),
}
"""Territories an occlusion cuts off, and how often it occurs."""
Templates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64]]
"""Grey matter, white matter, and the affine that they share."""


@dataclass(frozen=True)
class Anatomy:
    """One head on the phantom's grid; all arrays have SHAPE."""

    gm: NDArray[np.float32]
    wm: NDArray[np.float32]
    """Tissue probabilities in [0, 1]; the rest of the brain is CSF."""
    brain: NDArray[np.bool_]
    mni_mm: NDArray[np.float32]
    """(*SHAPE, 3): where each voxel lies in the template."""


def load_templates() -> Templates:
    """Return nilearn's grey and white matter maps at 2 mm, and the affine that they share."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    grey = load_mni152_gm_template(resolution=2)
    white = load_mni152_wm_template(resolution=2)
    return (
        np.asarray(grey.dataobj, np.float32),
        np.asarray(white.dataobj, np.float32),
        grey.affine,
    )


def make_anatomy(templates: Templates, random: Generator) -> Anatomy:
    """Move, scale and warp the template: another head for every case."""
    gm, wm, affine = templates
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    world = grid * SPACING_MM + ORIGIN_MM
    tilt, nod, turn = np.deg2rad(random.normal(0, (3, 4, 3)))
    rotation = _rotation(tilt, nod, turn) / random.normal(1, 0.035, 3)[:, None]
    warp = np.stack([smooth_noise(random, 25.0) * 2.0 for _ in range(3)], -1)
    centre = np.array([0.0, -18.0, 10.0])
    mni = (world - centre) @ rotation.T + centre + warp
    voxel = (mni - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    # The template's 2 mm voxels are finer than the slices are thick: average before sampling.
    grey: NDArray[np.float32]
    white: NDArray[np.float32]
    grey, white = (
        ndimage.map_coordinates(
            ndimage.gaussian_filter(tissue, (0.4, 0.4, 1.2)), np.moveaxis(voxel, -1, 0), order=1
        )
        for tissue in (gm, wm)
    )
    closed = ndimage.binary_closing(grey + white > 0.35, np.ones((5, 5, 3), bool))
    filled = [ndimage.binary_fill_holes(closed[:, :, z]) for z in range(SHAPE[2])]
    brain = largest_piece(np.stack(filled, 2))
    return Anatomy(grey * brain, white * brain, brain, mni.astype(np.float32))


def make_perfusion(
    anatomy: Anatomy, random: Generator, has_lesion: bool
) -> tuple[dict[str, NDArray[np.floating]], NDArray[np.bool_], str]:
    """Simulate CBF, CBV, MTT and Tmax.

    Returns:
        Maps (also `core`, `old` and `pale`, shares in [0, 1] that CT shows), the lesion, and
        the occlusion's name.
    """
    gm, wm = anatomy.gm, anatomy.wm
    tissue = gm + wm > 0.6
    names = list(OCCLUSIONS)
    occlusion = str(random.choice(names, p=[OCCLUSIONS[name][1] for name in names]))
    side = 1 if random.random() < 0.5 else -1
    territory = tissue & _territory(anatomy, OCCLUSIONS[occlusion][0], side)
    late, core = _occlude(territory, anatomy, random)
    lesion = core if has_lesion else np.zeros_like(core)

    old: NDArray[np.float32] = np.zeros(SHAPE, np.float32)
    for _ in range(random.integers(1, 4)):
        old = np.maximum(old, _blob(tissue & ~late, anatomy, random, (10.0, 20.0)))
    ventricle_mm = ndimage.distance_transform_edt(
        ~(anatomy.brain & (gm + wm < 0.3) & (np.abs(anatomy.mni_mm[..., 0]) < 30)), SPACING_MM
    )
    pale = random.uniform(0, 1) * np.clip(1.6 - ventricle_mm / 10, 0, 1) * wm
    narrowed = (random.random() < 0.5) * (anatomy.mni_mm[..., 0] * random.choice((-1, 1)) > 0)

    blur = SPACING_MM[0] * 0.8 / SPACING_MM
    h: NDArray[np.float32] = ndimage.gaussian_filter(late.astype(np.float32), blur)
    c: NDArray[np.float32] = ndimage.gaussian_filter(lesion.astype(np.float32), blur * 0.8)
    n = narrowed.astype(np.float32)
    flow = random.normal(1, 0.15)
    cbv = flow * (4.0 * gm + 1.6 * wm + 0.1 * (1 - gm - wm))
    cbv *= (1 + 0.2 * h * (1 - c)) * (1 - random.uniform(0.4, 0.6) * c)
    cbv *= (1 - 0.75 * old) * (1 - 0.5 * pale)
    mtt = 4.2 * gm + 5.2 * wm + 9.0 * (1 - gm - wm)
    mtt *= (1 + random.uniform(0.9, 1.6) * h) * (1 + 0.55 * n)
    tmax = 1.2 + random.uniform(5.0, 8.0) * h + random.uniform(3.5, 6.0) * n * (1 - h)
    for _ in range(random.integers(0, 6)):
        tmax += random.uniform(3, 6) * _blob(tissue & ~late, anatomy, random, (4.0, 8.0))

    cbv = np.maximum(cbv + 0.35 * smooth_noise(random, 3.0), 0.05)
    mtt = np.maximum(mtt * (1 + 0.12 * smooth_noise(random, 3.0)), 1.0)
    tmax = np.maximum(tmax + 1.0 * smooth_noise(random, 3.0), 0)
    brain = anatomy.brain
    maps = {"cbv": cbv * brain, "mtt": mtt * brain, "tmax": tmax * brain}
    maps["cbf"] = np.maximum(60 * cbv / mtt + 2.0 * smooth_noise(random, 3.0), 0) * brain
    return maps | {"core": c, "old": old, "pale": pale, "late": h}, lesion, occlusion


def make_ct(
    anatomy: Anatomy, maps: dict[str, NDArray[np.floating]], random: Generator
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Simulate NCCT and CTA in HU: brain, skull, scalp and air."""
    gm, wm, brain = anatomy.gm, anatomy.wm, anatomy.brain
    away_mm = ndimage.distance_transform_edt(~brain, SPACING_MM)
    head = np.select([away_mm <= 2, away_mm <= 9, away_mm <= 14], [8.0, 950.0, 20.0], -1000.0)
    tissue = 38 * gm + 29 * wm + 7 * (1 - gm - wm)
    tissue -= random.uniform(4, 7) * maps["core"] + 5 * maps["pale"]
    tissue += (9 - tissue) * 0.85 * maps["old"]
    ncct = np.where(brain, tissue, head)
    # Vessels run in the sulci and cisterns; fewer are filled behind the occlusion.
    sulci = brain * np.clip(1 - gm - wm, 0, 1)
    vessels = sulci * np.clip(smooth_noise(random, 3.0) - 0.8, 0, 2)
    contrast = 12 * gm + 5 * wm + 160 * vessels
    cta = ncct + brain * contrast * (1 - 0.5 * maps["late"])
    noise = [smooth_noise(random, 2.0) for _ in range(2)]
    return ncct + 2.5 * noise[0], cta + 4 * noise[1]


def _territory(anatomy: Anatomy, arteries: tuple[str, ...], side: int) -> NDArray[np.bool_]:
    """Return where the arteries' ends on one side (+1 right, -1 left) are the nearest."""
    points = [(name, np.array(point)) for name, ends in TERRITORIES.items() for point in ends]
    mirrored = anatomy.mni_mm * np.array([side, 1, 1], np.float32)
    distances = np.stack([((mirrored - point) ** 2).sum(-1) for _, point in points])
    wanted = np.array([name in arteries for name, _ in points])
    nearest: NDArray[np.bool_] = wanted[distances.argmin(0)] & (mirrored[..., 0] > 1)
    return nearest


def _occlude(
    territory: NDArray[np.bool_], anatomy: Anatomy, random: Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return the hypoperfused part of a territory, and its core: a tenth to a quarter of it."""
    centre = random.choice(anatomy.mni_mm[territory])
    distance_mm = np.linalg.norm(anatomy.mni_mm - centre, axis=-1)
    irregular = distance_mm + 9 * smooth_noise(random, 12.0)
    share = random.uniform(0.45, 1.0)
    late = territory & (irregular <= np.quantile(irregular[territory], share))
    heart = random.choice(anatomy.mni_mm[late])
    distance_mm = np.linalg.norm(anatomy.mni_mm - heart, axis=-1)
    irregular = distance_mm + 7 * smooth_noise(random, 9.0)
    share = random.uniform(0.09, 0.25)
    return late, late & (irregular <= np.quantile(irregular[late], share))


def _blob(
    where: NDArray[np.bool_], anatomy: Anatomy, random: Generator, radius_mm: tuple[float, float]
) -> NDArray[np.float32]:
    """Return one round, soft-edged spot in [0, 1] within `where`."""
    centre = random.choice(anatomy.mni_mm[where])
    distance_mm = np.linalg.norm(anatomy.mni_mm - centre, axis=-1)
    distance_mm += 3 * smooth_noise(random, 8.0)
    spot: NDArray[np.float32] = (
        np.clip((random.uniform(*radius_mm) - distance_mm) / 3 + 0.5, 0, 1) * where
    )
    return spot


def smooth_noise(random: Generator, width_mm: float) -> NDArray[np.float32]:
    """Return Gaussian noise of unit variance, correlated over about `width_mm`; shape SHAPE."""
    noise: NDArray[np.float32] = ndimage.gaussian_filter(
        random.standard_normal(SHAPE, np.float32), width_mm / SPACING_MM / 2, mode="wrap"
    )
    unit: NDArray[np.float32] = noise / noise.std()
    return unit


def _rotation(tilt: float, nod: float, turn: float) -> NDArray[np.float64]:
    """Return the rotation about y, then x, then z, in radians."""
    (cy, sy), (cx, sx), (cz, sz) = ((np.cos(a), np.sin(a)) for a in (tilt, nod, turn))
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    rotation: NDArray[np.float64] = about_z @ about_x @ about_y
    return rotation

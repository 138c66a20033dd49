"""Ways in which an image file can be wrong, drawn from a seed."""

import bz2
import gzip
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from numpy.random import Generator

WEIRD = (0, 1, -1, 2, 3, 7, 255, 32767, -32768, 1e-30, -1e-3, 0.3, 1e6, 1e30, 3e38,
         np.nan, np.inf, -np.inf)  # fmt: skip
FIELDS = (
    "sizeof_hdr", "dim", "datatype", "bitpix", "pixdim", "vox_offset", "scl_slope", "scl_inter",
    "xyzt_units", "intent_code", "slice_end", "slice_code", "dim_info", "cal_max", "qform_code",
    "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_z", "srow_x",
    "srow_y", "srow_z", "magic",
)  # fmt: skip
DATATYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304)


def content(path: Path) -> bytes:
    """Return a file's bytes, unpacked."""
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def replace(path: Path, data: bytes) -> None:
    """Write bytes, packed where the name says so."""
    path.write_bytes(gzip.compress(data, 1) if path.name.endswith(".gz") else data)


def header_bits(path: Path, draw: Generator) -> None:
    """Flip up to four bits of the header."""
    replace(path, _flip(content(path), draw, 352))


def voxel_bits(path: Path, draw: Generator) -> None:
    """Flip up to four bits of the voxels."""
    data = content(path)
    replace(path, data[:352] + _flip(data[352:], draw, len(data) - 352))


def file_bits(path: Path, draw: Generator) -> None:
    """Flip up to four bits of the file as it is, compressed or not."""
    data = path.read_bytes()
    path.write_bytes(_flip(data, draw, len(data)))


def _flip(data: bytes, draw: Generator, end: int) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.integers(1, 5)):
        changed[draw.integers(end)] ^= 1 << int(draw.integers(8))
    return bytes(changed)


def cut(path: Path, draw: Generator) -> None:
    """Break the file off, compressed or not."""
    data = path.read_bytes()
    path.write_bytes(data[: draw.integers(len(data))])


def cut_inside(path: Path, draw: Generator) -> None:
    """Break the content off, in a sound gzip file."""
    data = content(path)
    replace(path, data[: draw.integers(len(data))])


def add(path: Path, draw: Generator) -> None:
    """Add bytes at the end, or within."""
    data = path.read_bytes()
    place = len(data) if draw.random() < 0.5 else int(draw.integers(len(data)))
    path.write_bytes(data[:place] + draw.bytes(int(draw.integers(1, 3000))) + data[place:])


def blank(path: Path, draw: Generator) -> None:
    """Zero a stretch, as a file system does after a crash."""
    data = bytearray(path.read_bytes())
    first = int(draw.integers(len(data)))
    stretch = slice(first, first + int(draw.integers(1, 4096)))
    data[stretch] = bytes(len(data[stretch]))
    path.write_bytes(bytes(data))


def noise(path: Path, draw: Generator) -> None:
    """Be something else."""
    path.write_bytes(draw.bytes(int(draw.integers(0, 5000))))


def field(path: Path, draw: Generator) -> None:
    """Set a field of the header, or an element of it, to something weird."""
    data = content(path)
    header = np.frombuffer(data[:348], nibabel.Nifti1Header.template_dtype).copy()
    name = str(draw.choice(FIELDS))
    value = draw.choice(DATATYPES if name == "datatype" else WEIRD)
    if name == "magic":
        header[name] = draw.choice([b"ni1", b"n+2", b"", b"abcd"])
    else:
        values = header[name].reshape(-1)
        kind = values.dtype
        if kind.kind != "f":
            value = int(np.clip(np.nan_to_num(value), -(2**31), 2**31 - 1)) & (
                256**kind.itemsize - 1
            )
            value = np.array(value, f"u{kind.itemsize}").view(f"{kind.kind}{kind.itemsize}")
        with np.errstate(all="ignore"):
            values[draw.integers(len(values))] = value
    replace(path, header.tobytes() + data[348:])


def voxels(path: Path, draw: Generator) -> None:
    """Have other voxels: of another kind, shape or value, in a sound file."""
    image = nibabel.load(path)
    values, affine = np.asarray(image.dataobj, np.float32), image.affine
    x, y, z = values.shape
    changes: list[Callable[[], np.ndarray]] = [
        lambda: np.where(draw.random(values.shape) < 0.001, np.nan, values).astype(np.float32),
        lambda: np.where(draw.random(values.shape) < 0.001, np.inf, values).astype(np.float32),
        lambda: np.full_like(values, np.nan),
        lambda: np.zeros_like(values),
        lambda: np.full_like(values, float(draw.choice([1, -1, 0.3, 1e30, 3e38]))),
        lambda: values.astype(np.float64),
        lambda: values * 1e300,
        lambda: values.astype(np.complex64),
        lambda: values.astype(np.int32),
        lambda: np.rint(values).astype(np.uint8),
        lambda: np.rint(values).astype(np.int64),
        lambda: (values * 7).astype(np.int16),
        lambda: values * np.float32(0.3),
        lambda: values * np.float32(0.7),
        lambda: -values,
        lambda: values + np.float32(0.5),
        lambda: np.stack([values] * 3, -1),
        lambda: values[..., None],
        lambda: values[..., None, None],
        lambda: np.stack([values] * 2, -1)[..., None, :],
        lambda: values[:, :, 0],
        lambda: values[0, 0],
        lambda: values[:0],
        lambda: values[:1, :1, :1],
        lambda: values[:, :, :1],
        lambda: values[:, : y // 2],
        lambda: values[::-1, :, :],
        lambda: values.transpose(1, 0, 2),
        lambda: np.concatenate([values, values], 2),
        lambda: np.zeros((x, y, z), [("R", "u1"), ("G", "u1"), ("B", "u1")]),
    ]  # fmt: skip
    with np.errstate(all="ignore"):
        changed = changes[draw.integers(len(changes))]()
    kinds = [nibabel.Nifti1Image] * 4 + [nibabel.Nifti2Image]
    kind = kinds[draw.integers(len(kinds))]
    new = kind(changed, affine, dtype=changed.dtype)
    if draw.random() < 0.2 and changed.dtype.names is None:
        header = new.header.as_byteswapped(">")
        new = kind(changed, affine, header)
        new.set_data_dtype(changed.dtype.newbyteorder(">"))
    replace(path, new.to_bytes())


def place(path: Path, draw: Generator) -> None:
    """Lie elsewhere in space: moved, turned, sheared, flat, or nowhere."""
    image = nibabel.load(path)
    values, affine = np.asarray(image.dataobj, np.float32), image.affine.copy()
    match draw.integers(8):
        case 0:
            affine[:3, 3] += draw.normal(0, 10 ** draw.uniform(-6, 3), 3)
        case 1:
            affine[:3, :3] *= 10 ** draw.uniform(-9, 9)
        case 2:
            affine[:3, int(draw.integers(3))] *= 10 ** draw.uniform(-9, 9)
        case 3:
            affine[:3, :3] += draw.normal(0, 10 ** draw.uniform(-6, 1), (3, 3))
        case 4:
            affine[:3] = draw.permutation(affine[:3])
        case 5:
            affine[:3, int(draw.integers(4))] = float(draw.choice(WEIRD))
        case 6:
            affine[:, int(draw.integers(3))] *= -1
        case _:
            affine[:3, 1] = affine[:3, 0] * (1 + 10 ** draw.uniform(-9, -1))
    new = nibabel.Nifti1Image(values, None)
    new.header["sform_code"] = 1
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        with np.errstate(all="ignore"):
            new.header[name] = affine[row]
    buffer = io.BytesIO()
    new.header.set_data_dtype(np.float32)
    new.header["magic"], new.header["vox_offset"] = b"n+1", 352
    new.header["dim"][:4] = [3, *values.shape]
    buffer.write(new.header.structarr.tobytes() + bytes(4) + values.tobytes(order="F"))
    replace(path, buffer.getvalue())


def swap(path: Path, draw: Generator) -> None:
    """Be another file of the case."""
    root = next(folder for folder in path.parents if (folder / "derivatives").is_dir())
    others = sorted(each for each in root.rglob("*.nii*") if each != path)
    replace(path, content(others[draw.integers(len(others))]))


def packing(path: Path, draw: Generator) -> None:
    """Be packed otherwise than the name says: twice, not at all, or another way."""
    data = content(path)
    ways = [data, gzip.compress(data), gzip.compress(gzip.compress(data)), bz2.compress(data)]
    path.write_bytes(ways[draw.integers(len(ways))])


def kind(path: Path, draw: Generator) -> None:
    """Be no file, or a strange one."""
    good = path.with_name("good" + path.name)
    path.rename(good)
    match draw.integers(6):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to(path)
        case 2:
            path.symlink_to(good)
        case 3:
            os.mkfifo(path)
        case 4:
            path.touch()
        case _:
            shutil.copy(good, path)
            path.chmod(0)
    if not (path.is_symlink() and os.readlink(path) == str(good)):
        good.unlink()


WAYS = (header_bits, voxel_bits, file_bits, cut, cut_inside, add, blank, noise, field, field, field,
        field, voxels, voxels, voxels, place, place, swap, packing, kind)  # fmt: skip

"""Which decoder for which transfer syntax: `python -m tests.bench.decoders FILM CT FOLDER` (DICOM files, real ones).

The pixels of a film and of a CT slice are written in every transfer syntax; what is lossy is taken from scans in FOLDER
as it is. Every decoder that is installed decodes the same frame, in rounds, and is compared with the decoder that
pydicom chooses: bits and time. `tests/bench/results/decoders.json` holds what came of it.
"""

import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from tests.bench.machine import machine

ROUNDS = 7
RESULTS = Path(__file__).parent / "results" / "decoders.json"
LIBRARIES = (
    "pydicom", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "pyjpegls", "imagecodecs",
    "opencv-python-headless", "pillow", "numpy",
)  # fmt: skip

Decode = Callable[[], np.ndarray]

LOSSLESS = {"1.2.840.10008.1.2.4.57": "+el", "1.2.840.10008.1.2.4.70": "+e1"}
"""JPEG Lossless, written by dcmtk's dcmcjpeg, and how it is asked for it."""
BY_PYDICOM = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5")
HTJ2K = "1.2.840.10008.1.2.4.201"
DEFLATED = "1.2.840.10008.1.2.1.99"
LOSSY = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203)}


def optional(name: str) -> Any:
    """Import a library that need not be here; None where it is not."""
    try:
        return __import__(name)
    except ImportError:
        return None


IMAGECODECS, CV2 = optional("imagecodecs"), optional("cv2")


def contenders(ds: Dataset, frame: bytes) -> dict[str, Decode]:
    """Return who decodes this frame: pydicom's plugins first, in the order in which it tries them."""
    syntax = ds.file_meta.TransferSyntaxUID
    if syntax == DEFLATED:
        found: dict[str, Decode] = {"zlib": lambda: np.frombuffer(zlib.decompress(frame, -15), np.uint8)}
        if IMAGECODECS:
            found["imagecodecs deflate"] = lambda: np.frombuffer(_inflated(frame), np.uint8)
        return found
    found = {
        f"pydicom: {plugin}": lambda plugin=plugin: _by_plugin(ds, frame, plugin)
        for plugin in get_decoder(syntax)._available
    }
    if IMAGECODECS:
        found |= {f"imagecodecs: {name}": way for name, way in _imagecodecs(ds, syntax, frame).items()}
    if CV2 and syntax in {"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"}:
        encoded = np.frombuffer(frame, np.uint8)
        found["OpenCV"] = lambda: CV2.imdecode(encoded, CV2.IMREAD_UNCHANGED)
    return found


def _by_plugin(ds: Dataset, frame: bytes, plugin: str) -> np.ndarray:
    options = {
        "rows": ds.Rows,
        "columns": ds.Columns,
        "samples_per_pixel": ds.SamplesPerPixel,
        "number_of_frames": 1,
        "photometric_interpretation": ds.PhotometricInterpretation,
        "bits_allocated": ds.BitsAllocated,
        "bits_stored": ds.BitsStored,
        "pixel_representation": ds.PixelRepresentation,
        "pixel_keyword": "PixelData",
        "correct_unused_bits": False,
    }
    decoder = get_decoder(ds.file_meta.TransferSyntaxUID)
    only = encapsulate([frame], has_bot=False)
    return decoder.as_array(only, index=0, raw=True, decoding_plugin=plugin, **options)[0]


def _imagecodecs(ds: Dataset, syntax: str, frame: bytes) -> dict[str, Decode]:
    kind = syntax.rpartition(".4.")[2]
    names = {
        "50": ("jpeg8_decode",),
        "51": ("jpeg_decode",),
        "57": ("ljpeg_decode", "jpegsof3_decode", "jpeg_decode"),
        "70": ("ljpeg_decode", "jpegsof3_decode", "jpeg_decode"),
        "80": ("jpegls_decode",),
        "81": ("jpegls_decode",),
        "90": ("jpeg2k_decode",),
        "91": ("jpeg2k_decode",),
        "201": ("htj2k_decode", "jpeg2k_decode"),
    }.get(kind, ())
    found: dict[str, Decode] = {
        name: lambda name=name: getattr(IMAGECODECS, name)(frame) for name in names if hasattr(IMAGECODECS, name)
    }
    if syntax == "1.2.840.10008.1.2.5":
        dtype = np.dtype(f"u{ds.BitsAllocated // 8}")
        found["dicomrle_decode"] = lambda: np.frombuffer(IMAGECODECS.dicomrle_decode(frame, dtype), dtype)
    return found


def _inflated(frame: bytes) -> bytes:
    return IMAGECODECS.deflate_decode(frame, raw=True)


def rewritten(path: Path, folder: Path, absent: dict[str, str]) -> list[tuple[Dataset, bytes]]:
    """Return the first frame of an object in every lossless transfer syntax."""
    native = pydicom.dcmread(path)
    if native.file_meta.TransferSyntaxUID.is_compressed:
        native.decompress()
    native.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = []
    for uid in BY_PYDICOM:
        ds = pydicom.dcmread(_saved(native, folder))
        ds.compress(UID(uid), generate_instance_uid=False)
        found.append((ds, get_frame(ds.PixelData, 0, number_of_frames=1)))
    for uid, option in LOSSLESS.items():
        written = folder / "lossless.dcm"
        try:
            subprocess.run(["dcmcjpeg", option, _saved(native, folder), written], check=True)
        except FileNotFoundError:
            absent[uid] = "dcmtk is not installed"
            continue
        ds = pydicom.dcmread(written)
        found.append((ds, get_frame(ds.PixelData, 0, number_of_frames=1)))
    if IMAGECODECS is None:
        absent[HTJ2K] = "imagecodecs, which writes it here, is not installed"
    else:
        frame = IMAGECODECS.htj2k_encode(native.pixel_array)
        found.append((_as(native, HTJ2K), bytes(frame)))
    deflating = zlib.compressobj(6, zlib.DEFLATED, -15)
    found.append((_as(native, DEFLATED), deflating.compress(native.PixelData) + deflating.flush()))
    return found


def _saved(ds: Dataset, folder: Path) -> Path:
    path = folder / "native.dcm"
    ds.save_as(path, enforce_file_format=True)
    return path


def _as(native: Dataset, uid: str) -> Dataset:
    ds = Dataset()
    ds.update(native)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(uid)
    ds.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return ds


def lossy(folder: Path) -> list[tuple[Dataset, bytes]]:
    """Return the first frame of the largest grey scan in each lossy transfer syntax."""
    largest: dict[str, Dataset] = {}
    for path in sorted(folder.rglob("*")):
        try:
            ds = pydicom.dcmread(path, defer_size=1 << 10)
        except (pydicom.errors.InvalidDicomError, OSError):
            continue
        syntax = ds.file_meta.get("TransferSyntaxUID")
        if syntax in LOSSY and ds.get("SamplesPerPixel") == 1 and ds.get("Rows") and "PixelData" in ds:
            before = largest.get(syntax)
            if before is None or ds.Rows * ds.Columns > before.Rows * before.Columns:
                largest[syntax] = ds
    return [(ds, get_frame(ds.PixelData, 0, number_of_frames=int(ds.get("NumberOfFrames", 1) or 1)))
            for _, ds in sorted(largest.items())]  # fmt: skip


def compared(ds: Dataset, frame: bytes) -> dict[str, dict[str, Any]]:
    """Time everybody, in rounds; the first one's bits are the measure."""
    taken: dict[str, list[float]] = {}
    found: dict[str, dict[str, Any]] = {}
    able: dict[str, Decode] = {}
    expected: bytes | None = None
    for name, decode in contenders(ds, frame).items():
        try:
            values = np.ascontiguousarray(decode())
        except Exception as error:  # noqa: BLE001 - whatever a decoder says of what it cannot do
            found[name] = {"cannot": f"{type(error).__name__}: {error}"[:100]}
            continue
        expected = values.tobytes() if expected is None else expected
        able[name], taken[name] = decode, []
        found[name] = {"same_bits": values.tobytes() == expected}
    for _ in range(ROUNDS):
        for name, decode in able.items():
            began = time.perf_counter()
            decode()
            taken[name].append(1000 * (time.perf_counter() - began))
    for name, times in taken.items():
        found[name]["ms"] = round(statistics.median(times), 2)
    return found


def main(film: str, ct: str, folder: str) -> None:
    """Measure, print and write."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    absent: dict[str, str] = {}
    report: dict[str, Any] = {
        "machine": machine(RESULTS.parent),
        "libraries": _versions(),
        "rounds": ROUNDS,
        "absent": absent,
    }
    with tempfile.TemporaryDirectory(prefix="firstread-bench-") as name:
        cases = {"film": rewritten(Path(film), Path(name), absent), "CT slice": rewritten(Path(ct), Path(name), absent)}
    cases["a scan as it came"] = lossy(Path(folder))
    report["decoders"] = {}
    for what, frames in cases.items():
        for ds, frame in frames:
            syntax = ds.file_meta.TransferSyntaxUID
            case = f"{syntax.name} ({syntax}), {what}, {ds.Rows} x {ds.Columns} of {ds.BitsStored} bits"
            report["decoders"][case] = found = compared(ds, frame)
            print(case)
            for who, seen in sorted(found.items(), key=lambda one: one[1].get("ms", float("inf"))):
                bits = "" if "cannot" in seen else "same bits" if seen["same_bits"] else "OTHER BITS"
                print(f"  {seen.get('ms', '-'):>9} ms  {who:36} {seen.get('cannot', bits)}")
    RESULTS.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    found = {"python": sys.version.split()[0]}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What the `models` commands open: a DICOM file through the guarded reader, a picture directly."""

import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import Self

from models.bulk import UnusableFileError
from models.card import Window
from models.errors import ImageError
from models.preprocessing import FloatArray, is_coloured, is_picture, load_picture
from models.registry import Package
from worker import bootstrap
from worker.config import Settings
from worker.errors import FirstreadError
from worker.file_format import find_data_set
from worker.inference.pixels import PixelReader
from worker.intake.header_parsing import parse
from worker.intake.header_text import Header
from worker.intake.routing import Router

PICTURE_MODALITY = "DX"
"""A picture that says nothing of itself is taken for a chest film."""

_NEITHER = "neither a DICOM object nor a PNG or JPEG picture"

COLOURED = "a picture in colour, made grey: models learn from grey films, so what one says of it may mean nothing"

PICTURE_ENDINGS = frozenset((".png", ".jpg", ".jpeg"))


class FilmReader:
    """Reads films for training and evaluation: PNG, JPEG or DICOM, as the worker reads them.

    Parameters
    ----------
    settings
        Limits of the decoding child.
    frame_policy
        Which frame of several, as in the card.
    window
        In which a CT with Hounsfield units is shown, as in the card.
    """

    def __init__(self, settings: Settings, frame_policy: str, window: Window | None) -> None:
        self._pixels = PixelReader(seconds=settings.decode_seconds, memory_bytes=settings.decode_bytes)
        self._frame_policy = frame_policy
        self._window = window

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pixels.close()

    def read(self, path: Path) -> FloatArray:
        """Return the image, float32 (rows, columns), 0 black to 255 white.

        Raises
        ------
        ImageError
            If the file cannot be read.
        """
        return read_image(path, self._pixels, self._frame_policy, self._window)


def read_image(path: Path, pixels: PixelReader, frame_policy: str, window: Window | None) -> FloatArray:
    """Read a picture as it is, or a DICOM file as the worker does.

    Raises
    ------
    ImageError
        If it can be read as neither.
    """
    if is_picture(path):
        return load_picture(path)
    try:
        return pixels.read(path, frame_policy, window).image
    except FirstreadError as error:
        if path.suffix.lower() in PICTURE_ENDINGS:
            raise ImageError(
                f"for all its name this is neither a PNG nor a JPEG picture, and as DICOM: {error}"
            ) from error
        raise ImageError(str(error)) from error


class FileOpener:
    """Chooses the model for a file and reads its image; what `models predict` hands to `models.bulk.predict`.

    Parameters
    ----------
    settings
        Routes, model folder, limits of the decoding child.
    chosen
        The one package to ask, or None: a DICOM file is routed, a picture goes to the default chest film model.

    Attributes
    ----------
    coloured
        The pictures in colour among the files opened.
    """

    def __init__(self, settings: Settings, chosen: Package | None) -> None:
        self._settings = settings
        self._chosen = chosen
        self._pixels = PixelReader(seconds=settings.decode_seconds, memory_bytes=settings.decode_bytes)
        self._registry = bootstrap.model_registry(settings)
        self._router: Router | None = None
        self._found: dict[str, Package] = {}
        self.coloured: set[Path] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pixels.close()

    def open(self, path: Path) -> list[tuple[Package, FloatArray]]:
        """Return the packages that are to see a file, each with the image as its card wants it.

        Raises
        ------
        UnusableFileError
            If the file is missing, is no DICOM object, PNG or JPEG, or is not eligible for any model.
        ImageError
            If its pixels cannot be read.
        """
        if not path.is_file():
            raise UnusableFileError("there is no such file")
        opened = [
            (package, read_image(path, self._pixels, package.card.frame_policy, package.card.window))
            for package in self._packages(path)
        ]
        if is_picture(path) and is_coloured(path):
            self.coloured.add(path)
        return opened

    def _packages(self, path: Path) -> list[Package]:
        if self._chosen is not None:
            return [self._chosen]
        if is_picture(path):
            return [self._once(PICTURE_MODALITY, self._registry.default_for)]
        if self._router is None:
            self._router = bootstrap.model_router(self._settings)
        decision = self._router.decide(header_of(path, self._router.keywords))
        if not decision.models:
            raise UnusableFileError(f"not eligible: {decision.reason}")
        return [self._once(identifier, self._registry.find) for identifier in decision.models]

    def _once(self, key: str, find: Callable[[str], Package]) -> Package:
        """Look a package up once: a registry reads every card each time it is asked."""
        if key not in self._found:
            self._found[key] = find(key)
        return self._found[key]


def header_of(path: Path, keywords: Collection[str]) -> Header:
    """Read attributes of any DICOM file, with or without preamble and file meta information (PS3.10 7.1).

    In this process, within the bounds of `worker.intake.header_parsing`; what of it is damaged is left out.

    Raises
    ------
    UnusableFileError
        If it is no DICOM object.
    """
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's remarks about single values
            try:
                syntax = find_data_set(file)
            except Exception as error:  # noqa: BLE001 - pydicom raises anything over bytes that are none
                raise UnusableFileError(f"{_NEITHER}: {type(error).__name__} in its file meta information") from None
            found = parse(file, file.tell(), syntax, keywords)
    except OSError as error:
        raise UnusableFileError(str(error)) from None
    if found.defect and not found.header:
        raise UnusableFileError(f"{_NEITHER}: {found.defect}")
    return found.header

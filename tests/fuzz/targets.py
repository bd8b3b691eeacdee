"""What is fuzzed, and what must hold of each case: no error outside the catalogue, no name in a message, no silence."""

import mmap
import os
import random
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Self

from sqlmodel import Session, col, select

from models.preprocessing import prepare
from tests.fuzz.corpus import NAME, PATIENT_ID, SOP_INSTANCE, STUDY, frames, seeds, wrapped
from tests.fuzz.mutation import Mutation, mutate, random_mutations
from tests.support.fakes import card, make_pipeline
from tests.support.objects import spool_bytes
from worker.database import AuditEvent, Instance, InstanceStatus
from worker.errors import PixelError, UnreadableObject
from worker.inference.codestream import size_of
from worker.inference.part10 import MappedFile, Part10
from worker.inference.pixels import PixelReader
from worker.intake import headers
from worker.intake.file_meta import read_file_meta
from worker.intake.header_parsing import parse
from worker.intake.registration import ATTRIBUTES
from worker.intake.routing import Router

KEYWORDS = ATTRIBUTES | Router((), {}).keywords
SECONDS = 20.0
MEMORY = 1 << 30
INFLATED = 64 << 20


class Violation(Exception):
    """Something that must hold does not; the message says what.

    Attributes
    ----------
    case
        The case, where it is not the one that was being run.
    """

    case: bytes | None = None


class Target(ABC):
    """One thing that reads what strangers sent; used as a context.

    Attributes
    ----------
    share
        Of all cases, how many are its own, per cent.
    """

    name: str
    share: int

    def __enter__(self) -> Self:
        self.directory = tempfile.TemporaryDirectory(prefix="firstread-fuzz-")
        self.path = Path(self.directory.name) / "case.dcm"
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self.directory.cleanup()

    def open(self) -> None:  # noqa: B027 - most need nothing
        """Start what it needs."""

    def close(self) -> None:  # noqa: B027
        """Stop it."""

    def finish(self) -> None:  # noqa: B027
        """Judge what was gathered."""

    def made(self, choice: int, steps: Sequence[Mutation]) -> bytes:
        """Return a case: a seed, mutated after our own file meta information, or all of it."""
        corpus = seeds()
        seed = corpus[choice % len(corpus)]
        start = 0 if choice % 10 == 0 else read_file_meta(BytesIO(seed)).start
        return mutate(seed, steps, start=start, others=corpus)

    def random_case(self, seed: int, index: int) -> bytes:
        """Return the case of this number: the same for the same seed."""
        source = random.Random(f"{seed}/{self.name}/{index}")
        return self.made(source.getrandbits(16), random_mutations(source))

    @abstractmethod
    def run(self, case: bytes) -> None:
        """Read one case.

        Raises
        ------
        Violation
            Something does not hold.
        """


def speaks_of_nobody(words: str) -> None:
    """Raise where a message names the patient, whole or in part."""
    for secret in (NAME, *NAME.split("^"), PATIENT_ID):
        if secret.casefold() in words.casefold():
            raise Violation(f"a message names the patient: {words[:300]}")


class FileMetaTarget(Target):
    """File meta information, as intake reads it; and the file down to its pixels, as the decoding child does."""

    name, share = "part 10", 35

    def made(self, choice: int, steps: Sequence[Mutation]) -> bytes:
        """Return a seed of which any byte may be mutated, every second one after the file meta information."""
        corpus = seeds()
        seed = corpus[choice % len(corpus)]
        return mutate(seed, steps, start=0 if choice & 256 else 132, others=corpus)

    def run(self, case: bytes) -> None:
        """Read one case."""
        try:
            meta = read_file_meta(BytesIO(case))
        except UnreadableObject as error:
            speaks_of_nobody(str(error))
        else:
            if meta.start < 144 or len(meta.calling_ae) > 16 or len(meta.sop_instance_uid) > 64:
                raise Violation(f"file meta information out of bounds: {meta}")
        if not case:
            return
        self.path.write_bytes(case)
        file = os.open(self.path, os.O_RDONLY)
        try:
            Part10(MappedFile(file, 0, access=mmap.ACCESS_READ), inflated_bytes=INFLATED)
        except PixelError as error:
            speaks_of_nobody(str(error))
        finally:
            os.close(file)


class HeaderTarget(Target):
    """The parser of the child that reads headers, and the parent's judgement of what it says."""

    name, share = "headers", 40

    def run(self, case: bytes) -> None:
        """Read one case."""
        try:
            meta = read_file_meta(BytesIO(case))
        except UnreadableObject:
            return
        said = asdict(parse(BytesIO(case), meta.start, meta.transfer_syntax_uid, KEYWORDS))
        _, _, defect = headers._checked(said, KEYWORDS)
        speaks_of_nobody(defect)


class RegistrationTarget(Target):
    """Spool to rows, with the real child and a real database, in batches."""

    name, share = "registration", 5
    batch = 64
    renewed = 2000
    """So many objects into one database: then a new one, that none grows without end."""

    def open(self) -> None:
        """Start a pipeline."""
        self.number = self.in_batch = self.in_database = 0
        self.reader = headers.HeaderReader(seconds=SECONDS)
        self._renew()

    def _renew(self) -> None:
        self.number += 1
        root = Path(self.directory.name) / str(self.number)
        root.mkdir()
        self.pipeline = make_pipeline(f"sqlite:///{root / 'firstread.db'}", root)
        assert self.pipeline.arrivals
        self.pipeline.arrivals.headers = self.reader
        self.spooled: dict[str, str] = {}
        self.in_database = 0

    def close(self) -> None:
        """Stop it."""
        self.pipeline.database.dispose()
        self.reader.close()

    def random_case(self, seed: int, index: int) -> bytes:
        """Return a case with UIDs of its own."""
        case = super().random_case(seed, index)
        for uid in (SOP_INSTANCE, STUDY):
            case = case.replace(uid.encode(), f"{uid[:8]}{index:015d}{uid[-1]}".encode())
        return case

    def run(self, case: bytes) -> None:
        """Spool one case; every so many, register them."""
        name = spool_bytes(self.pipeline.spool, case)
        path = self.pipeline.spool.path(name)
        assert path
        self.spooled[name] = headers.identify(path).dataset_sha256
        self.in_batch += 1
        if self.in_batch >= self.batch:
            self.finish()

    def finish(self) -> None:
        """Register what is spooled, and look at every row."""
        self.in_batch = 0
        while self.pipeline.register_arrivals():
            pass
        if left := list(self.pipeline.spool.arrivals()):
            raise Violation(f"{len(left)} arrivals were left")
        with self.pipeline.database.read() as session:
            self._judge(session)
        self.in_database += self.batch
        self.spooled.clear()
        if self.in_database >= self.renewed:
            self.pipeline.database.dispose()
            self._renew()

    def _judge(self, session: Session) -> None:
        rows = session.exec(select(Instance)).all()
        by_name = {row.spool_name: row for row in rows}
        contents = {row.dataset_sha256 for row in rows}
        for name, content in self.spooled.items():
            row = by_name.get(name)
            if row is None and content not in contents:
                raise Violation("an object is neither registered nor an identical resend")
            if row is None:
                continue
            try:
                self._judge_row(row)
            except Violation as error:
                path = self.pipeline.spool.path(name)
                error.case = path.read_bytes() if path else None
                raise
        newest = select(AuditEvent).order_by(col(AuditEvent.id).desc()).limit(2 * self.batch)
        for event in session.exec(newest).all():
            speaks_of_nobody(f"{event.subject} {event.detail}")

    @staticmethod
    def _judge_row(row: Instance) -> None:
        if row.status not in {InstanceStatus.PENDING, InstanceStatus.FAILED, InstanceStatus.NOT_ELIGIBLE}:
            raise Violation(f"status {row.status}")
        if row.status != InstanceStatus.PENDING and not row.reason:
            raise Violation("a failure without a reason")
        if "it cannot be registered" in row.reason:
            raise Violation(row.reason)
        speaks_of_nobody(f"{row.reason} {row.remark}")


CARD = card().model_copy(update={"frame_policy": "middle"})


class PixelTarget(Target):
    """Pixels, through the guarded child."""

    name, share = "pixels", 10

    def open(self) -> None:
        """Start the child."""
        self.reader = PixelReader(seconds=SECONDS, memory_bytes=MEMORY, max_pixels=1 << 24)

    def close(self) -> None:
        """Stop it."""
        self.reader.close()

    def run(self, case: bytes) -> None:
        """Read one case."""
        self.path.write_bytes(case)
        try:
            frame = self.reader.read(self.path, "middle")
        except PixelError as error:
            speaks_of_nobody(str(error))
        else:
            speaks_of_nobody(frame.note)
            if not (frame.image.min() >= 0 and frame.image.max() <= 255):
                raise Violation("an image that is not between 0 and 255")
            shape = CARD.input
            expected = prepare(CARD.recipe, frame.image, shape.rows, shape.columns, shape.channels)
            prepared = self.reader.prepared(self.path, CARD, with_preview=True)
            if prepared.image.tobytes() != expected.tobytes():
                raise Violation("the child makes another input than the image gives")
            if self.reader.preview(prepared) is None:
                raise Violation("an image without a preview")


class CodestreamTarget(PixelTarget):
    """Compressed frames alone: what they say of their size, and the decoders in the guarded child."""

    name, share = "codestreams", 10

    def made(self, choice: int, steps: Sequence[Mutation]) -> bytes:
        """Return an object with a mutated frame."""
        syntax, frame = frames()[choice % len(frames())]
        self.frame = mutate(frame, steps, others=[other for _, other in frames()]).ljust(2, b"\0")
        return wrapped(syntax, self.frame, self.path)

    def run(self, case: bytes) -> None:
        """Read one case."""
        size = size_of(self.frame if hasattr(self, "frame") else case)
        if size is not None and not all(isinstance(part, int) for part in size):
            raise Violation(f"a size that is none: {size}")
        super().run(case)


class PlantedTarget(Target):
    """Faults on purpose: the test of the fuzzer itself. The fourth case crashes, the sixth hangs, the eighth tells."""

    name, share = "planted", 0

    def random_case(self, seed: int, index: int) -> bytes:
        """Return the number of the case."""
        return index.to_bytes(4, "little")

    def run(self, case: bytes) -> None:
        """Do wrong where it is planted."""
        number = int.from_bytes(case, "little")
        if number == 3:
            os.abort()
        while number == 5:
            pass
        if number == 7:
            speaks_of_nobody(f"cannot read {NAME}")


TARGETS: dict[str, type[Target]] = {
    one.name: one
    for one in (FileMetaTarget, HeaderTarget, RegistrationTarget, PixelTarget, CodestreamTarget, PlantedTarget)
}


@contextmanager
def opened(name: str) -> Iterator[Target]:
    """Start a target and stop it afterwards."""
    with TARGETS[name]() as target:
        yield target

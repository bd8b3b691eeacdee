"""A copy of the source in which guards can be taken away, and the tests that are run there."""

import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import ROOT, SCANS
from tests.traps.kinds import Guard, Removal

SOURCE = ("dicom_listener", "worker", "models", "tests", "deploy", "pyproject.toml", "README.md")
SECONDS = 1200.0
"""How long one run of tests may take."""


class TableError(Exception):
    """A row of the table is no longer true of the source."""


def check(guard: Guard, root: Path = ROOT) -> None:
    """Raise `TableError` unless each text is found exactly once in its file, and each test is there."""
    for removal in guard.removals:
        _replaced(removal, root)
    for test in guard.tests:
        file, _, name = test.partition("::")
        function = re.escape(name.partition("[")[0])
        path = root / file
        if not path.is_file() or not re.search(rf"^def {function}\(", path.read_text(), re.MULTILINE):
            raise TableError(f"no such test: {test}")


def _replaced(removal: Removal, root: Path) -> str:
    path = root / removal.file
    text = path.read_text() if path.is_file() else ""
    found = text.count(removal.text)
    if found != 1:
        raise TableError(f"{removal.file}: found {found} times instead of once: {removal.text.strip()[:80]!r}")
    return text.replace(removal.text, removal.instead)


class Tree:
    """The copy, in a directory of the caller's own."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "firstread"
        self.root.mkdir()
        for name in SOURCE:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, self.root / name)

    @contextmanager
    def without(self, removals: Sequence[Removal]) -> Iterator[None]:
        """Take guards away for as long as the block runs."""
        kept = {removal.file: (self.root / removal.file).read_text() for removal in removals}
        try:
            for removal in removals:
                (self.root / removal.file).write_text(_replaced(removal, self.root))
            yield
        finally:
            for file, text in kept.items():
                (self.root / file).write_text(text)

    def run(self, tests: Sequence[str]) -> dict[str, str]:
        """Run tests by their node ids, in the copy alone; return of each: passed, failed, skipped or missing.

        A test with several parameters has passed where all did, and failed where one did not. One that could not even
        be collected is missing.
        """
        report = self.root / "report.xml"
        report.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.root),  # before the place where the package is installed from
            "PYTHONDONTWRITEBYTECODE": "1",
            "FIRSTREAD_TEST_SCANS": str(SCANS),
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *tests]
        with (self.root / "output.txt").open("w") as output:
            streams = {"stdout": output, "stderr": subprocess.STDOUT}
            subprocess.run(command, cwd=self.root, env=environment, timeout=SECONDS, check=False, **streams)
        return {test: self._result(test, report) for test in tests}

    def last_words(self) -> str:
        """Return the end of what the tests said."""
        return "\n".join((self.root / "output.txt").read_text().splitlines()[-40:])

    @staticmethod
    def _result(test: str, report: Path) -> str:
        if not report.exists():
            return "missing"
        file, _, name = test.partition("::")
        module = file.removesuffix(".py").replace("/", ".")
        results = set()
        for case in ET.parse(report).iter("testcase"):  # noqa: S314 - pytest has just written it for us
            found = str(case.get("name"))
            if case.get("classname") == module and name in {found, found.partition("[")[0]}:
                kinds = {child.tag for child in case}
                results.add("failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed")
        return next((result for result in ("failed", "skipped", "passed") if result in results), "missing")

"""What the demonstration shows: a live table on a terminal, a line for each change elsewhere."""

from collections.abc import Sequence
from textwrap import shorten
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.demo.verdict import Document, newest_reports

STYLES = {
    "immediate": "bold white on red",
    "urgent": "bold yellow",
    "routine": "cyan",
    "failed": "bold red",
    "pending": "magenta",
    "complete": "green",
}
REASON_LENGTH = 120
COLUMNS = ("patient", "modality", "AI status", "priority", "findings", "report")


def cells(document: Document) -> tuple[str, ...]:
    """Return the words of one study, in the order of `COLUMNS`."""
    return (
        document["patient_name"],
        document["modality"],
        document["ai_status"].replace("_", " "),
        document["priority"],
        findings(document),
        report(document),
    )


def findings(document: Document) -> str:
    """Return what was flagged; else why not, or the highest probability of those below their threshold."""
    if document["ai_status"] in {"failed", "not_eligible"}:
        return shorten(str(document["reason"]), REASON_LENGTH, placeholder=" …")
    shown = sorted(document["findings"], key=lambda finding: -finding["probability"])
    flagged = [f"{finding['label']} {finding['probability']:.0%}" for finding in shown if finding["flagged"]]
    if flagged:
        return ", ".join(flagged)
    return f"none flagged (highest: {shown[0]['label']} {shown[0]['probability']:.0%})" if shown else ""


def report(document: Document) -> str:
    """Return how far the newest report is."""
    states = sorted({d["status"] for report in newest_reports(document) for d in report["deliveries"]})
    if not states:
        return "stored" if document["reports"] else "-"
    return ", ".join(states)


class View:
    """The studies on a console, as they change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._said: dict[str, tuple[str, ...]] = {}
        self._has_header = False

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, documents: Sequence[Document], caption: str) -> None:
        """Show the studies as they are now."""
        if self._live is not None:
            self._live.update(table(documents, caption))
            return
        for document in documents:
            uid, words = document["study_instance_uid"], cells(document)
            if self._said.get(uid) != words:
                self._said[uid] = words
                if not self._has_header:
                    self._say(COLUMNS)
                    self._has_header = True
                self._say(words)

    def _say(self, words: Sequence[str]) -> None:
        self._console.print(" | ".join(words), markup=False, highlight=False, soft_wrap=True)


def table(documents: Sequence[Document], caption: str) -> Table:
    """Return the studies as a table; what comes from outside is not taken for markup."""
    made = Table(title="AI triage - not for diagnosis", caption=caption, caption_justify="left", expand=True)
    for column in COLUMNS:  # a study a line, so that all of them fit on a small terminal
        made.add_column(column, no_wrap=True, overflow="ellipsis", ratio=2 if column == "findings" else None)
    for document in documents:
        made.add_row(*(Text(word, style=STYLES.get(word, "")) for word in cells(document)))
    return made

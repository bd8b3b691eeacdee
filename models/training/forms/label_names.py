"""What a label is called in tables and folders, and which labels this project knows."""

from collections import Counter
from collections.abc import Sequence

from models.errors import DataError

ALIASES = {
    "normal": ("healthy", "no finding", "no findings", "nofinding", "normals"),
    "pneumonia": ("pnemonia", "viral pneumonia", "bacterial pneumonia", "other pneumonia"),
    "covid": ("covid-19", "covid19 pneumonia", "ct_covid", "sars-cov-2", "covid positive"),
    "non-covid": ("ct_noncovid", "not covid", "no covid", "covid negative", "non covid-19"),
    "tuberculosis": ("tb", "tbc"),
}
"""The labels that this project knows, and other names they go by in published sets ("Pnemonia" is CoronaHack's)."""


def folded(name: str) -> str:
    """Leave only small letters and digits: what is left of a name whoever wrote it."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


_KNOWN = {folded(name): label for label, aliases in ALIASES.items() for name in (label, *aliases)}


def known(name: str) -> str | None:
    """Return the label of this project that a name stands for, None if there is none."""
    return _KNOWN.get(folded(name))


class LabelNames:
    """From a name in the data to a label of the network, counting what it has no output for.

    Parameters
    ----------
    labels
        Labels of the network in the order of its outputs.
    """

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self.left_out: Counter[str] = Counter()
        self._exact = {folded(label): label for label in labels}
        meanings = Counter(known(label) for label in labels)
        self._meaning = {known(label): label for label in labels if meanings[known(label)] == 1}
        self._meaning.pop(None, None)

    def knows(self, name: str) -> bool:
        """Say whether a name is one of the network's labels or one of this project's."""
        return folded(name) in self._exact or known(name) is not None

    def label(self, name: str) -> str | None:
        """Return the network's label of a name, None if it has none."""
        return self._exact.get(folded(name)) or self._meaning.get(known(name))

    def match(self, name: str, where: str) -> str | None:
        """Return the network's label of a name; None, and counted, where it is one that only this project knows.

        Raises
        ------
        DataError
            If it is neither; naming the place.
        """
        label = self.label(name)
        if label is not None:
            return label
        other = known(name)
        if other is None:
            raise DataError(f"{where}: label {name!r} is none of {', '.join(self.labels)}")
        self.left_out[other] += 1
        return None

    def notes(self) -> list[str]:
        """Say what was left out."""
        if not self.left_out:
            return []
        counts = ", ".join(f"{label} {count:,}" for label, count in sorted(self.left_out.items()))
        return [f"Left out, as the network has no output for them: {counts}."]

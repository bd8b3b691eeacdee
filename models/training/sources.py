"""Leave one source out: what a network says of the films of a hospital that it has never seen.

Where label and source are confounded a network that recognises sources does well on a test of the same sources. This
test asks the other question (J. R. Zech et al., "Variable generalization performance of a deep learning model to detect
pneumonia in chest radiographs", PLoS Med 15(11), 2018).
"""

from dataclasses import replace

from models.errors import DataError
from models.training.dataset import Dataset
from models.training.film import UNKNOWN


def leave_one_source_out(dataset: Dataset) -> tuple[dict[str, Dataset], tuple[str, ...]]:
    """Make a data set for each source: trained and validated on all others, tested on every film of the source.

    Returns
    -------
    dict of str to Dataset
        By the source that is left out.
    tuple of str
        Why a source has none, in sentences: without it a label has no film to learn from.

    Raises
    ------
    DataError
        If there are fewer than two sources, or none can be left out.
    """
    sources = sorted({film.source for film in dataset.films} - {UNKNOWN})
    if len(sources) < 2:
        raise DataError(
            f"{dataset.root}: leaving a source out needs two or more; known: {', '.join(sources) or 'none'}"
        )
    found: dict[str, Dataset] = {}
    notes = []
    for source in sources:
        patients = {film.patient for film in dataset.films if film.source == source}
        others = [film for film in dataset.films if film.patient not in patients and film.split != "test"]
        absent = [
            label
            for label in dataset.labels
            if any(all(film.label != label for film in others if film.split == split) for split in ("train", "val"))
        ]
        if absent:
            notes.append(
                f"{source} cannot be left out: without it no film of {', '.join(absent)} is left to learn from."
            )
            continue
        tested = [replace(film, split="test") for film in dataset.films if film.source == source]
        note = f"Tested on all films of {source}, of which none was seen in training."
        found[source] = replace(dataset, films=(*others, *tested), notes=(*dataset.notes, note))
    if not found:
        raise DataError(f"{dataset.root}: no source can be left out. {' '.join(notes)}")
    return found, tuple(notes)

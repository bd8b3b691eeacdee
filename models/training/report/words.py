"""What a report says before its tables: a few sentences that are worked out, not written."""

from collections import Counter, defaultdict

from models.card import Card, Group, Interval, Metrics
from models.training.dataset import UNKNOWN
from models.training.details import SMALL, Details, OperatingPoint
from models.training.evaluate import Scored


def figure(found: Interval | None, places: int = 3) -> str:
    """Write a value; a dash where there is none."""
    return "-" if found is None or found.value is None else f"{found.value:.{places}f}"


def span(found: Interval | None, places: int = 3) -> str:
    """Write the interval alone; nothing where there is none."""
    if found is None or found.low is None or found.high is None:
        return ""
    return f"{found.low:.{places}f} to {found.high:.{places}f}"


def glance(card: Card, scored: Scored, metrics: Metrics, details: Details, word: str) -> list[str]:
    """Say what is to be seen first.

    Parameters
    ----------
    word
        What an image is called.

    Returns
    -------
    list of str
        Right and wrong, each finding at the card's threshold, the best and the worst part of the set, labels that come
        from one source alone, calibration; only what is so in these films.
    """
    right = sum(row[i] for i, row in enumerate(metrics.confusion))
    said = [
        f"The most probable label was right for {right} of {counted(metrics.images, word)} of"
        f" {counted(metrics.patients, 'patient')}: {with_interval(metrics.accuracy)}."
    ]
    said += [_flagging(point, word) for point in details.operating_points if point.asked is None]
    said += _spread("source", metrics.by_source, word)
    said += _spread("age group", metrics.by_age_group, word)
    said += _one_source(card, scored, word)
    said += _calibration(details)
    return said


def counted(number: int, what: str) -> str:
    """Write a number of things."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def with_interval(found: Interval) -> str:
    """Write a value with its interval in words."""
    return f"{figure(found)} (95 % interval {span(found)})" if span(found) else figure(found)


def _flagging(point: OperatingPoint, word: str) -> str:
    true, others = point.hits + point.misses, point.false_alarms + point.unflagged
    if not true:
        return f"No {word} here has {point.label}; it was flagged in {point.false_alarms} of {counted(others, word)}."
    return (
        f"At the card's threshold of {point.threshold:g}, {point.label} was flagged in {point.hits} of the {true}"
        f" {word}s that have it and in {point.false_alarms} of the {others} that do not."
    )


def _spread(what: str, groups: dict[str, Group], word: str) -> list[str]:
    told = {name: group for name, group in groups.items() if group.images >= SMALL and group.accuracy.value is not None}
    if len(told) < 2:
        return []
    ordered = sorted(told, key=lambda name: told[name].accuracy.value or 0.0)
    lowest, highest = (
        f"{figure(told[name].accuracy)} ({name}, {told[name].images} {word}s)" for name in (ordered[0], ordered[-1])
    )
    return [f"By {what}, the share right goes from {lowest} to {highest}."]


def _one_source(card: Card, scored: Scored, word: str) -> list[str]:
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    for film in scored.films:
        sources[film.label][film.source] += 1
    everything = {source for counts in sources.values() for source in counts}
    if len(everything) < 2 or UNKNOWN in everything:
        return []
    alone = [
        f"every {label.name} {word} comes from {next(iter(sources[label.name]))}"
        for label in card.labels
        if len(sources[label.name]) == 1
    ]
    if not alone:
        return []
    return [
        f"Here {' and '.join(alone)}: a high figure there may be the source that is recognised, and not the disease."
    ]


def _calibration(details: Details) -> list[str]:
    before, after = details.reliability.error_before.value, details.reliability.error_after.value
    if before is None or after is None:
        return []
    return [
        f"Probabilities are off the share that was right by {after:.3f} on average ({before:.3f} before the card's"
        " temperature)."
    ]

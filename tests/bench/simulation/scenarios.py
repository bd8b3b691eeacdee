"""The scenarios: a hospital's day, a region's morning, and how far a site of each size goes."""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tests.bench.simulation import cost
from tests.bench.simulation.arrivals import HOUR, Mix, by_the_clock, evenly
from tests.bench.simulation.bottleneck import LIMIT, Bottleneck, find, window
from tests.bench.simulation.cost import DAYS_A_MONTH, Prices
from tests.bench.simulation.inputs import Inputs
from tests.bench.simulation.plant import Plant
from tests.bench.simulation.simulate import Outcome, simulate
from tests.bench.simulation.stage_times import Stage, slower

WORKERS = (1, 2, 4, 8, 16, 32, 64)
MODALITIES = (1, 3, 10, 30, 100, 300, 1000)
REGION = ((4, False), (16, False), (4, True))
"""Workers, and whether each has a GPU."""
FASTER = (1.0, 2.0, 3.0)
OVERLOAD = 3.0
PEAK_SECONDS, PEAK_WARM_UP = 1500.0, 300.0

FIRST_GUESS = 20.0
"""Instances a second."""

Tell = Callable[..., None]


def hospital_day(inputs: Inputs, tell: Tell) -> dict[str, Any]:
    """A hospital from midnight to midnight."""
    hospital = inputs.assumed["hospital"]
    begin, end = hospital["hours"]
    plant = inputs.plant(workers=hospital["workers"])
    studies = by_the_clock(inputs.mix, hospital["modalities"], inputs.day, begin, end, random.Random(1))
    outcome = simulate(
        plant, inputs.stages, studies, (end - begin) * HOUR,
        tell=lambda share: tell(f"{begin + share * (end - begin):.0f} h", share),
    )  # fmt: skip
    return {
        "how": hospital["how"],
        "modalities": hospital["modalities"],
        "plant": describe(plant),
        "outcome": outcome.as_document(),
        "hours": hours_of(outcome, begin, end),
        "cost": cost_of(inputs, plant, hospital["modalities"]),
    }


def hours_of(outcome: Outcome, begin: int, end: int) -> list[dict[str, Any]]:
    """Return what came in each hour, and how much lay unread at most."""
    rows: list[dict[str, Any]] = []
    before = 0
    for hour in range(end - begin):
        looks = [one for one in outcome.samples if hour * HOUR < one[0] <= (hour + 1) * HOUR]
        row = {"hour": begin + hour, "received": looks[-1][2] - before, "most_unread": max(one[1] for one in looks)}
        rows.append(row)
        before = looks[-1][2]
    return rows


def regional_morning(inputs: Inputs, tell: Tell) -> dict[str, Any]:
    """A region's morning peak, with more and more workers."""
    region = inputs.assumed["region"]
    begin, end = region["hours"]
    rows = []
    for workers, gpu in REGION:
        plant = inputs.plant(workers=workers, gpu=gpu)
        studies = by_the_clock(inputs.mix, region["modalities"], inputs.day, begin, end, random.Random(1))
        name = f"{workers} workers{', GPU' if gpu else ''}"
        outcome = simulate(
            plant, inputs.stages, studies, (end - begin) * HOUR, warm_up=300,
            tell=lambda share, name=name: tell(name, share),
        )  # fmt: skip
        row = {"plant": describe(plant), "outcome": outcome.as_document()}
        rows.append({**row, "cost": cost_of(inputs, plant, region["modalities"])})
    return {"how": region["how"], "modalities": region["modalities"], "hours": [begin, end], "rows": rows}


def sweep(inputs: Inputs, tell: Tell) -> dict[str, Any]:
    """How far each size goes: over workers, over modalities, and what each remedy brings."""
    sizes: list[dict[str, Any]] = []
    for gpu in (False, True):
        rate = FIRST_GUESS
        for workers in WORKERS:
            plant = inputs.plant(workers=workers, gpu=gpu)
            sizes.append(capacity(inputs, plant, inputs.stages, f"{workers} workers", tell, rate))
            rate = sizes[-1]["objects_a_second"]  # where the next one begins to look
    return {
        "limit": LIMIT,
        "workers": sizes,
        "modalities": [at_the_peak(inputs, modalities, tell) for modalities in MODALITIES],
        "remedies": remedies(inputs, tell),
        "faster": faster(inputs, tell),
    }


def capacity(
    inputs: Inputs, plant: Plant, stages: Mapping[str, Stage], name: str, tell: Tell, guess: float
) -> dict[str, Any]:
    """Return how much a plant carries until its first resource is full, and what 1,000 studies cost then."""
    said = f"{name}{', GPU' if plant.gpu else ''}"
    found = find(plant, stages, inputs.mix, start=guess, tell=lambda words: tell(f"{said}, {words}"))
    studies_a_month = found.rate / inputs.mix.objects_a_study * HOUR / max(inputs.day) * DAYS_A_MONTH
    return {
        "name": name,
        "plant": describe(plant),
        **bottleneck_of(found),
        "at_most": at_most(plant, stages, inputs.mix, found.rate),
        "modalities": found.rate / inputs.mix.objects_a_study * HOUR / max(inputs.day) / inputs.mix.studies_a_day,
        "cost": cost.of_thousand(plant, Prices.of(inputs.assumed["prices"]), inputs.mix, studies_a_month),
    }


def at_most(plant: Plant, stages: Mapping[str, Stage], mix: Mix, rate: float) -> float:
    """Return how many instances a second are classified when far more come: batches are full then, and scans wait."""
    rate *= OVERLOAD
    seconds, warm_up = window(mix, rate)
    load = evenly(mix, rate, seconds, random.Random(1))
    return simulate(plant, stages, load, seconds, warm_up=warm_up).done


def bottleneck_of(found: Bottleneck) -> dict[str, Any]:
    """Return the first bottleneck, those behind it, and how busy everything was."""
    return {
        "first": found.resource,
        "objects_a_second": found.rate,
        "next": [{"resource": name, "objects_a_second": rate} for name, rate in found.next_ones()],
        "simulated": found.outcome.as_document(),
    }


def at_the_peak(inputs: Inputs, modalities: int, tell: Tell) -> dict[str, Any]:
    """Return what so many modalities see in the busiest hour of the day, with four workers."""
    plant = inputs.plant(workers=4)
    busiest = inputs.day.index(max(inputs.day))
    begin = float(busiest)
    end = begin + PEAK_SECONDS / HOUR
    studies = by_the_clock(inputs.mix, modalities, inputs.day, begin, end, random.Random(modalities))
    outcome = simulate(
        plant, inputs.stages, studies, PEAK_SECONDS, warm_up=PEAK_WARM_UP,
        tell=lambda share: tell(f"{modalities} modalities", share),
    )  # fmt: skip
    return {"modalities": modalities, "plant": describe(plant), "outcome": outcome.as_document()}


def remedies(inputs: Inputs, tell: Tell) -> list[dict[str, Any]]:
    """Return what a site carries when something of it is changed, one after the other, each on top of the last."""
    plant, stages = inputs.plant(workers=16), dict(inputs.stages)
    intake = {name: stage for name, stage in stages.items() if name.startswith(("headers", "register"))}
    rows: list[dict[str, Any]] = []

    def add(name: str) -> None:
        guess = rows[-1]["objects_a_second"] if rows else FIRST_GUESS
        rows.append(capacity(inputs, plant, stages, name, tell, guess))

    add("as it is")
    stages["commit"] = replace(stages["commit"], seen={})
    add("a study's state carried on, not read anew with each batch")
    stages |= slower({"commit": stages["commit"]}, 0.25)
    add("the commit of a batch at a quarter of its cost")
    stages |= slower(intake, 0.25)
    add("registration at a quarter of its cost")
    plant = replace(plant, decoders=4)
    add("four decoding children a worker")
    plant = replace(plant, listeners=4, spool_bytes=4 * plant.spool_bytes, spool_channels=4 * plant.spool_channels)
    add("four listeners, storage four times as fast")
    return rows


def faster(inputs: Inputs, tell: Tell) -> list[dict[str, Any]]:
    """Return what four workers carry on processors that are faster than those of the measurement, or less disturbed."""
    rows: list[dict[str, Any]] = []
    for factor in FASTER:
        guess = rows[-1]["objects_a_second"] if rows else FIRST_GUESS
        stages, name = slower(inputs.stages, 1 / factor), f"{factor:g} times as fast"
        rows.append(capacity(inputs, inputs.plant(workers=4), stages, name, tell, guess))
    return rows


def describe(plant: Plant) -> dict[str, Any]:
    """Return what distinguishes a plant."""
    return {
        "workers": plant.workers, "gpu": plant.gpu, "cores": cost.cores_of(plant), "listeners": plant.listeners,
        "decoders": plant.decoders, "overlap": plant.overlap,
    }  # fmt: skip


def cost_of(inputs: Inputs, plant: Plant, modalities: float) -> dict[str, float]:
    """Return what 1,000 studies cost on a plant, with the studies that so many modalities make."""
    a_month = modalities * inputs.mix.studies_a_day * DAYS_A_MONTH
    return cost.of_thousand(plant, Prices.of(inputs.assumed["prices"]), inputs.mix, a_month)


SCENARIOS: dict[str, Callable[[Inputs, Tell], dict[str, Any]]] = {
    "hospital-day": hospital_day,
    "regional-morning": regional_morning,
    "sweep": sweep,
}

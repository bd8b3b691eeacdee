"""What 1,000 studies cost: machines by the hour, storage by the month; prices are assumed, and yours to change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.bench.simulation.arrivals import Mix
from tests.bench.simulation.plant import Plant
from tests.bench.simulation.receiving import BYTES

DAYS_A_MONTH = 365 / 12
GIGABYTE = 1e9


@dataclass(frozen=True)
class Prices:
    """Of one core and one GPU for an hour, and a gigabyte for a month."""

    core_hour: float
    gpu_hour: float
    storage_gb_month: float
    months_kept: float
    hours_a_month: float
    currency: str
    how: str

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Prices":
        """Return the prices as the assumptions have them."""
        return cls(**document)


def cores_of(plant: Plant) -> float:
    """Return all cores that have to be paid for."""
    return plant.one_machine_cores or plant.front_cores + plant.database_cores + plant.workers * plant.worker_cores


def hourly(plant: Plant, prices: Prices) -> float:
    """Return what the machines of a plant cost in an hour."""
    return cores_of(plant) * prices.core_hour + plant.workers * plant.gpu * prices.gpu_hour


def gigabytes_a_study(mix: Mix) -> float:
    """Return the mean size of a study as it is kept."""
    film, ct = mix.film_objects * BYTES["cr"], mix.ct_objects * BYTES["ct"]
    return ((1 - mix.ct_studies_share) * film + mix.ct_studies_share * ct) / GIGABYTE


def of_thousand(plant: Plant, prices: Prices, mix: Mix, studies_a_month: float) -> dict[str, float]:
    """Return what 1,000 studies cost: of the machines that stand there whatever comes, and of the storage.

    machines = 1000 x hourly price x hours of a month / studies of a month
    storage  = 1000 x gigabytes of a study x price of a gigabyte-month x months kept
    """
    machines = 1000 * hourly(plant, prices) * prices.hours_a_month / studies_a_month
    storage = 1000 * gigabytes_a_study(mix) * prices.storage_gb_month * prices.months_kept
    return {
        "studies_a_month": studies_a_month,
        "hourly": hourly(plant, prices),
        "machines": machines,
        "storage": storage,
        "sum": machines + storage,
    }

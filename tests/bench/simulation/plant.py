"""What is set up: how many of each, where they run, and what lies between them."""

from dataclasses import dataclass

from models.engines.keras import BUCKETS


@dataclass(frozen=True)
class Plant:
    """A site's machines and settings; the defaults are those of firstread where it has one.

    Attributes
    ----------
    one_machine_cores
        Cores of the one machine on which all of it runs, senders and PACS too; 0: listener and intake, database and
        each worker have machines of their own.
    front_cores, database_cores, worker_cores
        Cores of the machine of listener and intake, of the database, and for each inference worker.
    gpu
        Whether a worker runs the network on a GPU of its own, else on its cores.
    decoders
        Children that decode at the same time in a worker.
    overlap
        Whether the next batch is decoded while this one is in the network and the last one is committed, as firstread
        does; else one after the other.
    batch_seconds
        As FIRSTREAD_BATCH_SECONDS.
    spool_channels
        Durable writes that the spool's disk does at the same time.
    round_trip_seconds
        From a service to the database's machine and back.
    link_bytes
        What a modality sends a second at most, and `modality_rate` how many objects; 0: as fast as it is answered.
    spool_bytes
        What the storage under the spool carries a second, reads and writes together; 0: reads come from memory.
    """

    workers: int = 1
    gpu: bool = False
    one_machine_cores: float = 0.0
    front_cores: int = 8
    database_cores: int = 8
    worker_cores: int = 4
    listeners: int = 1
    decoders: int = 1
    overlap: bool = True
    batch_seconds: float = 1.0
    max_batch: int = BUCKETS[-1]
    spool_channels: int = 4
    database_connections: int = 100
    max_associations: int = 100
    delivery_threads: int = 4
    round_trip_seconds: float = 0.0
    link_bytes: float = 0.0
    modality_rate: float = 0.0
    spool_bytes: float = 0.0
    pacs_seconds: float | None = None
    quiet_seconds: float = 10.0
    sweep_seconds: float = 2.0
    turn_seconds: float = 2.0
    """As `worker.tasks.TURN_SECONDS`."""


def bucket_of(count: int) -> int:
    """Return the batch size that is computed for so many images."""
    return next(bucket for bucket in BUCKETS if bucket >= count)

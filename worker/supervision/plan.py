"""Which services `up` runs, and how many of those that classify."""

import os
import sys
from collections.abc import Sequence

from worker.supervision.service import Service

CORES_A_WORKER = 2
"""Where there are so many cores for each, there is an inference worker more: its decoding child takes one of them."""

MOST = 8
"""Inference workers that are started unasked: the disk and the database have their limits too."""


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_services(
    models: Sequence[str] = (),
    *,
    cores: int | None = None,
    workers: int = 0,
    single_threaded: bool = False,
    devices: Sequence[str] = (),
) -> tuple[Service, ...]:
    """Return the services of `up`, in the order in which they are drained.

    On GPUs, each has an inference worker of its own. Where every model runs on one thread (ONNX Runtime), there are
    several workers, each for all models: small processes, which compute more than one with several threads. Else, where
    there are cores enough, each model has a worker of its own, one warm model a process; and where there are not, one
    worker takes turns with all of them: a second process would take a second copy of TensorFlow and compute no faster.

    Parameters
    ----------
    models
        Names of the installed models.
    cores
        How many there are; None: those that this process may use.
    workers
        How many inference workers to start, each for all models; 0: as above.
    single_threaded
        Whether every model runs on one thread.
    devices
        GPUs, as CUDA_VISIBLE_DEVICES names them.
    """
    return (
        _firstread("listener", "listener", "--no-intake", drain_seconds=30),
        _firstread("intake", "intake", drain_seconds=15),
        *_inference(models, cores or usable_cores(), workers, devices, single_threaded=single_threaded),
        _firstread("delivery", "worker", "--queues", "delivery", drain_seconds=35),
        _firstread("worklist", "worklist", drain_seconds=10),
    )


def _inference(
    models: Sequence[str], cores: int, workers: int, devices: Sequence[str], *, single_threaded: bool
) -> list[Service]:
    queues, threads = ["inference"], 1 if single_threaded else None
    if devices or workers or single_threaded:
        count = workers or len(devices) or max(1, min(MOST, cores // CORES_A_WORKER))
        queues *= count
    elif len(models) > 1 and cores >= CORES_A_WORKER * len(models):
        queues = [f"inference.{model}" for model in models]
    services = []
    for index, queue in enumerate(queues):
        name = queue if len(set(queues)) == len(queues) else f"{queue}.{index + 1}"
        device = ("--device", devices[index % len(devices)]) if devices else ()
        services.append(_firstread(name, "worker", "--queues", queue, *device, drain_seconds=35, threads=threads))
    return services


def _firstread(name: str, *arguments: str, drain_seconds: float, threads: int | None = 1) -> Service:
    return Service(name, (sys.executable, "-m", "worker.cli", *arguments), drain_seconds, threads)

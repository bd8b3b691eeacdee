"""Every Prometheus metric: its name, unit and help. Labels carry AE titles, modalities and models, never patients.

Processes that run under `firstread up` share `PROMETHEUS_MULTIPROC_DIR` and the worklist shows them all; a service on
its own serves its own at `METRICS_PORT`.
"""

import os
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, multiprocess, start_http_server

from worker.logs import get_logger

log = get_logger(__name__)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

instances_received = Counter(
    "firstread_instances_received",
    "Instances registered by intake; a calling AE title that is not on the list is 'other'.",
    ["calling_ae", "modality", "status"],
)
store_seconds = Histogram("firstread_store_seconds", "C-STORE request to DIMSE status.", buckets=SECONDS)
associations_refused = Counter(
    "firstread_associations_refused",
    "Callers that were not served: address, tls, certificate, calling_ae, called_ae, limit, stopping, other.",
    ["reason"],
)
certificate_expiry_timestamp = Gauge(
    "firstread_certificate_expiry_timestamp_seconds",
    "When the TLS certificate that a service shows ends, Unix time.",
    ["service"],
    multiprocess_mode="livemostrecent",
)
work_pending = Gauge(
    "firstread_work_pending", "Owed work not yet done.", ["kind", "model"], multiprocess_mode="livemostrecent"
)
work_oldest_seconds = Gauge(
    "firstread_work_oldest_seconds",
    "Age of the oldest owed work.",
    ["kind", "model"],
    multiprocess_mode="livemostrecent",
)
stage_seconds = Histogram(
    "firstread_stage_seconds", "Time spent in a stage of the pipeline.", ["stage"], buckets=SECONDS
)
predictions = Counter(
    "firstread_predictions", "Predictions committed, by label.", ["model", "version", "label", "flagged"]
)
prediction_probability = Histogram(
    "firstread_prediction_probability",
    "Probabilities given, by label: a drift shows here.",
    ["model", "version", "label"],
    buckets=tuple(step / 20 for step in range(1, 21)),
)
deliveries = Counter("firstread_deliveries", "Attempts to deliver a report.", ["destination", "status"])
commitments = Counter(
    "firstread_commitments",
    "Storage commitment: results given to peers (scp), answers to our own requests (scu).",
    ["role", "status"],
)
quarantined = Counter("firstread_quarantined", "Work given up after MAX_ATTEMPTS, for a person to look at.", ["kind"])
spool_free_bytes = Gauge(
    "firstread_spool_free_bytes", "Free space where accepted bytes are kept.", multiprocess_mode="livemostrecent"
)
logins = Counter(
    "firstread_logins", "Logins to the worklist: succeeded, refused, or throttled after too many.", ["how", "outcome"]
)
retention_removed_bytes = Counter(
    "firstread_retention_removed_bytes", "Stored bytes removed by retention: for their age, or for space.", ["because"]
)
batch_size = Histogram("firstread_batch_size", "Instances classified together.", buckets=(1, 2, 4, 8, 16, 32, 64))
stage_wait_seconds = Counter(
    "firstread_stage_wait_seconds",
    "Seconds that a stage of inference waited, for input or for room after it; the slowest stage hardly waits.",
    ["stage", "for"],
)
batches_in_hand = Gauge(
    "firstread_batches_in_hand",
    "Batches between claim and commit, of at most three a worker.",
    multiprocess_mode="livesum",
)
audit_events = Gauge("firstread_audit_events", "Events in the audit chain.", multiprocess_mode="livemostrecent")
audit_unsent = Gauge(
    "firstread_audit_unsent",
    "Audit events that the syslog receiver has not got yet.",
    multiprocess_mode="livemostrecent",
)


def shared_dir() -> Path | None:
    """Return the directory that the processes under `up` share their metrics in, if any."""
    path = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(path) if path else None


def registry(directory: Path | None = None) -> CollectorRegistry:
    """Return what `/metrics` shows: all processes where they share a directory, else this one.

    Parameters
    ----------
    directory
        The one that they share; None: that of the environment, if any.
    """
    directory = directory or shared_dir()
    if directory is None:
        return REGISTRY
    combined = CollectorRegistry()
    multiprocess.MultiProcessCollector(combined, str(directory))  # type: ignore[no-untyped-call]
    return combined


def serve(port: int, host: str = "127.0.0.1", directory: Path | None = None) -> None:
    """Serve metrics at `http://host:port/metrics`, those of `registry(directory)`; port 0 means off.

    Where the port cannot be had the log says so and the service goes on: metrics are no reason to stop work.
    """
    if not port:
        return
    try:
        start_http_server(port, addr=host, registry=registry(directory))
    except OSError as error:
        log.warning(
            "metrics_not_served",
            host=host,
            port=port,
            error=str(error),
            fix="set FIRSTREAD_METRICS_PORT to a free port",
        )

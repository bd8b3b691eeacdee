"""The Celery application: broker, queues, delivery guarantees.

A message is a hint that work is due; the rows say what is owed, and the sweeper hints again. So a message may be lost
or doubled: it is acknowledged when it is taken, nothing waits for redelivery, and no result is kept.
"""

import threading
from typing import Any

from celery import Celery, signals

from worker.config import load_settings
from worker.logs import configure_logs

settings = load_settings()
"""This process's settings; `celery -A worker.celery_app worker` comes in through this door."""

stopping = threading.Event()
"""Set when the worker has been told to end: it finishes what it holds and takes no more."""

app = Celery("firstread", include=["worker.tasks"])
app.conf.update(
    broker_url=settings.broker_url or None,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # A half-open broker is given up after a second, by whoever publishes and by whoever waits.
    broker_transport_options={"socket_connect_timeout": 1, "socket_timeout": 1, "socket_keepalive": True}
    if settings.broker_url.startswith(("redis", "rediss"))
    else {},
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_create_missing_queues=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    worker_soft_shutdown_timeout=30.0,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_proc_alive_timeout=60.0,
)


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def _logs(**_: Any) -> None:
    configure_logs("worker", settings.log_format)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _stop(**_: Any) -> None:
    stopping.set()

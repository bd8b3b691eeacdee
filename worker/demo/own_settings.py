"""The demonstration's own settings: nothing that the caller has set up for real work is touched."""

import os
from pathlib import Path

from worker.config import Peer, Settings
from worker.supervision.addresses import port_is_free

HOST = "127.0.0.1"
QUIET_SECONDS = 2.0
SWEEP_SECONDS = 0.5
MIN_FREE_BYTES = 64 << 20
KEPT = ("FIRSTREAD_MODELS_DIR", "FIRSTREAD_ENGINE")
"""Settings of the caller that hold in the demonstration too."""


def own_settings(data_dir: Path, pacs: Peer) -> Settings:
    """Return the settings: loopback, SQLite and the embedded Redis, the usual ports where they are free."""
    return Settings(
        data_dir=data_dir,
        database_url=f"sqlite:///{data_dir / 'firstread.db'}",
        broker_url="",
        pacs=(pacs,),
        tls_ca=None,
        tls_certificate=None,
        tls_key=None,
        dicom_plain_port=None,
        caller=(),
        dicom_host=HOST,
        dicom_port=usual_or_free(Settings.model_fields["dicom_port"].default),
        web_host=HOST,
        web_port=usual_or_free(Settings.model_fields["web_port"].default),
        study_quiet_seconds=QUIET_SECONDS,
        sweep_seconds=SWEEP_SECONDS,
        min_free_bytes=MIN_FREE_BYTES,
    )


def own_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of the services: the caller's without its settings, but for the models."""
    config = settings.data_dir / "firstread.toml"
    config.write_text("# The settings of this demonstration are in the environment of its services.\n")
    others = {name: value for name, value in os.environ.items() if not name.startswith("FIRSTREAD_") or name in KEPT}
    return others | {
        "FIRSTREAD_CONFIG": str(config),
        "FIRSTREAD_DATABASE_URL": settings.database_url,
        "FIRSTREAD_PACS": ",".join(str(peer) for peer in settings.pacs),
        "FIRSTREAD_DICOM_HOST": settings.dicom_host,
        "FIRSTREAD_DICOM_PORT": str(settings.dicom_port),
        "FIRSTREAD_WEB_HOST": settings.web_host,
        "FIRSTREAD_WEB_PORT": str(settings.web_port),
        "FIRSTREAD_STUDY_QUIET_SECONDS": str(settings.study_quiet_seconds),
        "FIRSTREAD_SWEEP_SECONDS": str(settings.sweep_seconds),
        "FIRSTREAD_MIN_FREE_BYTES": str(settings.min_free_bytes),
    }


def usual_or_free(usual: int) -> int:
    """Return the usual port, or 0 (a free one) where it is taken."""
    return usual if port_is_free(HOST, usual) else 0

"""Sole owner of the settings: `FIRSTREAD_*` in the environment, or `firstread.toml`; the environment wins.

Settings are read at the doors (`__main__`, `cli`, `celery_app`) and passed inward as plain values.
"""

from worker.config.callers import Caller
from worker.config.loading import load_settings, made_data_dir, origins, unknown_names
from worker.config.settings import Settings, config_file, default_data_dir
from worker.config.values import Credentials, Peer, Route, is_loopback

__all__ = [
    "Caller",
    "Credentials",
    "Peer",
    "Route",
    "Settings",
    "config_file",
    "default_data_dir",
    "is_loopback",
    "load_settings",
    "made_data_dir",
    "origins",
    "unknown_names",
]

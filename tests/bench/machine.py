"""What it ran on and what ran: without it a figure is a rumour."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from tests.conftest import ROOT

LIBRARIES = ("firstread", "pynetdicom", "pydicom", "numpy", "pillow", "keras", "tensorflow-cpu", "tensorflow",
             "jax", "torch", "onnxruntime", "celery", "redis", "sqlmodel", "sqlalchemy", "psycopg")  # fmt: skip
PROGRAMS = {"storescp": ("storescp", "--version"), "Orthanc": ("Orthanc", "--version")}
"""Peers, and how each says its version in its first line."""


def machine(folder: Path) -> dict[str, Any]:
    """Describe the machine; `folder` lies where the spools lie.

    Returns
    -------
    dict
        CPU model, cores that this process may use, memory, kernel, the file system of the spool, the load before.
    """
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
        "spool_file_system": file_system(folder),
        "load_before": [round(one, 2) for one in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Return the version of Python, of the libraries, of the peers that are installed, and our commit."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # an extra that is not installed, or the other TensorFlow
    for name, command in PROGRAMS.items():
        if shutil.which(command[0]):
            found[name] = said_version(command)
    if shutil.which("git"):
        command = ("git", "-C", str(ROOT), "describe", "--always", "--dirty")
        found["commit"] = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return found


def said_version(command: Sequence[str]) -> str:
    """Return the version number in what a program says of itself; all of its first line where there is none."""
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    first = (said.stdout or said.stderr).strip().partition("\n")[0]
    number = re.search(r"\d+(\.\d+)+\S*", first)
    return number[0] if number else first


def file_system(folder: Path) -> str:
    """Return the type of the file system that a folder lies on: `ext4`, `tmpfs`."""
    place = folder.resolve()
    mounts = {Path(one.mountpoint): one.fstype for one in psutil.disk_partitions(all=True)}
    return next((mounts[parent] for parent in (place, *place.parents) if parent in mounts), "unknown")


def _cpu_model() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()

"""The metadata of a file about the machine that recorded it."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path
from typing import Any


def host_metadata() -> dict[str, Any]:
    """Name, system, kernel and processors of this machine."""
    return {
        "name": socket.gethostname(),
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": os.cpu_count(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()

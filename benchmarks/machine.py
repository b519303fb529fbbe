"""The machine that a time was measured on."""

import os
import platform
from pathlib import Path

import torch


def environment_of(threads: int) -> dict[str, object]:
    """The machine, as far as it explains a time."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": threads,
        "cpu": processor(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "load_average_at_end": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def processor() -> str:
    """Model name of the processor, as the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

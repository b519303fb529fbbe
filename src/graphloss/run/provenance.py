"""Where a figure or a time comes from: versions and machine."""

from __future__ import annotations

import os
import platform
from typing import Any

PACKAGES = ("graphloss", "torch", "transformers", "sentence-transformers", "accelerate", "datasets", "scikit-learn")


def environment() -> dict[str, Any]:
    """The machine, as far as it explains a figure or a time."""
    import torch

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
    }

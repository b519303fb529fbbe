"""Where a figure or a time comes from: versions and machine."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from graphloss import __version__

PACKAGES = ("torch", "transformers", "sentence-transformers", "accelerate", "datasets", "scikit-learn")


def versions() -> dict[str, str]:
    """Versions of graphloss and of what its figures depend on; "unknown" where a package was not installed as one."""
    found = {"graphloss": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


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

"""What machine and which versions a number comes from."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from tamis.run import package_version

PACKAGES = ("tamis", "torch", "transformers", "peft", "bitsandbytes", "scikit-learn", "sacrebleu", "numpy", "scipy")


def environment(engine: str, device: str) -> dict[str, Any]:
    """Engine, device, machine and versions, for `metrics.json` and the report's method page.

    `hardware` is what a latency gate may name: the GPU where the device is one, else the processor and its cores.
    """
    machine = f"{processor()}, {cores()} cores"
    return {
        "engine": engine,
        "device": device,
        "hardware": "remote" if device == "remote" else _gpu() or machine if device.startswith("cuda") else machine,
        "machine": machine,
        "system": f"{platform.system()} {platform.release()}",
        "versions": {"python": platform.python_version(), **versions()},
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    return {name: version for name in PACKAGES if (version := package_version(name))}


def processor() -> str:
    """The processor's name, as people know it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores() -> int:
    """Cores this process may use; a container often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None

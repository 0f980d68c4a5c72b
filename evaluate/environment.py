"""What machine and which versions a number comes from."""

from __future__ import annotations

import platform
from typing import Any

from tamis.machine import cores, processor
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


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None

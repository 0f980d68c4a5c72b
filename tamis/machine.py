"""What this machine has: processor, cores, free memory, speed. Only the last needs torch."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
import time
from pathlib import Path


def processor() -> str:
    """The processor's name, as people know it."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> int:
    """Cores this process may use; a container often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of main memory that can be had without swapping; 0 where the system does not say.

    Page cache counts as free (Linux's MemAvailable); `SC_AVPHYS_PAGES` leaves it out.
    """
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def forget_peak() -> None:
    """Let this process's peak of memory be counted from here on, where the system can (Linux, proc(5): clear_refs)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def product_rate(device: str, dtype: str, rows: int, inner: int, columns: int, seconds: float = 0.2) -> float:
    """Floating-point operations per second of a matrix product (rows x inner) (inner x columns), measured.

    Args:
        device: `cpu` or `cuda`.
        dtype: torch's name for it.
        rows: of the left matrix. Take the shape of the work to be foretold: small products are slower.
        inner: columns of the left, rows of the right.
        columns: of the right matrix.
        seconds: how long to measure.
    """
    import torch

    kind = {"device": device, "dtype": getattr(torch, dtype)}
    left, right = torch.ones(rows, inner, **kind), torch.ones(inner, columns, **kind)

    def multiply() -> None:
        left @ right
        if device == "cuda":  # which is only told what to do
            torch.cuda.synchronize()

    for _ in range(3):
        multiply()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        multiply()
        count += 1
    return 2.0 * rows * inner * columns * count / (time.perf_counter() - started)

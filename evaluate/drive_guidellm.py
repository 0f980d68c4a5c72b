"""GuideLLM in a process of its own: `python -m tamis.evaluate.drive_guidellm SCENARIO.json`.

GuideLLM 0.8.1 tells its workers to start before it has written down when the first request of a Poisson load is due.
A worker that is quicker takes the year 1970 for that time and sends everything it holds in one burst: on one core all
of 100 requests that were to arrive at 20 a second. Here the time is written first. To be removed once
`AsyncPoissonStrategy.init_processes_start` does so itself.
"""

from __future__ import annotations

import sys
from typing import Any


def _start_in_order(strategy: Any, start_time: float) -> None:
    """The body of GuideLLM's method, its two halves the other way round."""
    from guidellm.scheduler import SchedulingStrategy

    with strategy._offset.get_lock():
        strategy._offset.value = start_time
    SchedulingStrategy.init_processes_start(strategy, start_time)


def main(scenario: str) -> None:
    """Run a scenario file; a report is where the scenario says."""
    from guidellm.cli.run import run
    from guidellm.scheduler import AsyncPoissonStrategy

    AsyncPoissonStrategy.init_processes_start = _start_in_order
    run.main(["--config", scenario, "--disable-console"], standalone_mode=True)


if __name__ == "__main__":  # its workers import this module too
    main(sys.argv[1])

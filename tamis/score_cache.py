"""Scores that cost time or money, on disk as soon as they are known: a killed scorer goes on where it stopped.

One file of JSON lines per scorer and identity (model hash, settings, versions), outside the run folder, so that a
changed quota does not pay for the same judgement twice. It holds hashes and numbers, never text and never a key.
"""

from __future__ import annotations

import json
import os
from typing import Any

from tamis.errors import UserError
from tamis.models import cache_folder
from tamis.record import json_sha256


class ScoreCache:
    """Values by key; each `put` is on disk before it returns.

    Args:
        scorer: its name.
        identity: JSON-able: everything that can change a value.
    """

    def __init__(self, scorer: str, identity: dict[str, Any]):
        self.file = cache_folder() / "scores" / f"{scorer}-{json_sha256(identity)[:24]}.jsonl"
        self._values: dict[str, Any] = {}
        for line in self._lines():
            # a line that a kill cut short, or that a full disk left behind, is a value that is not there
            try:
                key, value = json.loads(line)
                self._values[key] = value
            except (ValueError, TypeError):
                continue

    def _lines(self) -> list[bytes]:
        return self.file.read_bytes().splitlines() if self.file.is_file() else []

    def get(self, key: str) -> Any:
        """The value, or None where there is none."""
        return self._values.get(key)

    def put(self, key: str, value: Any) -> None:
        """Keep a value.

        Raises:
            UserError: the cache cannot be written.
        """
        line = json.dumps([key, value], allow_nan=False).encode() + b"\n"
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                if file.tell() and not self._ends_whole():
                    line = b"\n" + line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                "the cache of scores cannot be written",
                where=str(self.file),
                why=error.strerror or str(error),
                hint="name a writable folder: export TAMIS_CACHE=DIR",
            ) from None
        self._values[key] = value

    def _ends_whole(self) -> bool:
        with self.file.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

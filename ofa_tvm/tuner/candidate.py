"""A candidate: one schedule of one kernel, as data that travels to a worker and into a ledger."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

Source = Literal["default", "template", "neighbour", "donor", "evolution"]


@dataclass(frozen=True)
class Candidate:
    """A schedule to try.

    Args:
        kernel: key of the kernel.
        source: who proposed it.
        schedule: ``{"template": name, "parameters": {...}}``, or ``{"trace": ...}`` with a TVM trace as JSON;
            ``{}`` for the default schedule.
    """

    kernel: str
    source: Source
    schedule: dict[str, Any]

    @property
    def digest(self) -> str:
        """Identity of the program that this makes; the ledger refuses a second trial of the same."""
        text = json.dumps([self.kernel, self.schedule], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

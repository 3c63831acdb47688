"""A candidate: one schedule of one kernel, as data that travels to a worker and into a ledger."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from ofa_tvm.graph.kernel import KernelSchedule

Source = Literal["default", "template", "neighbour", "donor", "evolution"]


@dataclass(frozen=True)
class Candidate:
    """A schedule to try.

    Args:
        kernel: key of the kernel.
        source: who proposed it.
        schedule: how the kernel is computed.
    """

    kernel: str
    source: Source
    schedule: KernelSchedule

    @property
    def digest(self) -> str:
        """Identity of the program that this makes; the ledger refuses a second trial of the same."""
        text = json.dumps([self.kernel, self.schedule], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

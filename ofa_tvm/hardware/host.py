"""Which machine this is, since when: times of another host, or of before its last start, may not hold here."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from ofa_tvm.hardware.machine import cpu_name

IDENTITIES = ("/etc/machine-id", "/proc/sys/kernel/random/boot_id")


@functools.cache
def host_identity() -> str:
    """The processor (name, model and stepping), and a hash of the host's identity and of its last start."""
    identities = [Path(path).read_text().strip() for path in IDENTITIES if Path(path).is_file()]
    return f"{cpu_name()}; {hashlib.sha256(' '.join(identities).encode()).hexdigest()[:12]}"

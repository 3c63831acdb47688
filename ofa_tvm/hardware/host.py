"""Which machine this is, and since which boot: times from another host or an earlier boot may not hold here."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from ofa_tvm.hardware.machine import cpu_name

IDENTITIES = ("/etc/machine-id", "/proc/sys/kernel/random/boot_id")


@functools.cache
def host_identity() -> str:
    """The processor (name, model and stepping), and a hash of the host's identity and its last boot."""
    identities = [Path(path).read_text().strip() for path in IDENTITIES if Path(path).is_file()]
    return f"{cpu_name()}; {hashlib.sha256(' '.join(identities).encode()).hexdigest()[:12]}"

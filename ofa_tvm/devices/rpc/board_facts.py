"""What a board reports about itself: its processor, clocks and temperature, from the text files of Linux."""

from __future__ import annotations

from collections.abc import Callable

from ofa_tvm.support.files import Record

MAX_CORES = 64
MAX_ZONES = 16
_CPU = "/sys/devices/system/cpu"
_PROCESSOR_FIELDS = ("model name", "CPU implementer", "CPU part", "CPU revision", "Hardware", "Model")


def board_facts(read: Callable[[str], str | None]) -> Record:
    """Facts of a board; what it does not report is left out.

    Args:
        read: the text of a file on the board; None where it has none.
    """

    def line(path: str) -> str | None:
        text = read(path)
        return text.strip("\0\n ") or None if text else None

    def number(path: str) -> int | None:
        text = line(path)
        return int(text) if text is not None and text.lstrip("-").isdigit() else None

    online = line(f"{_CPU}/online")
    cores = parse_cores(online or "")[:MAX_CORES]
    temperatures = [number(f"/sys/class/thermal/thermal_zone{zone}/temp") for zone in range(MAX_ZONES)]
    facts = {
        "model": line("/proc/device-tree/model"),
        "name": line("/proc/sys/kernel/hostname"),
        "kernel": line("/proc/sys/kernel/osrelease"),
        "processors": processors(read("/proc/cpuinfo") or ""),
        "cores_online": online,
        "clock_khz": _known({core: number(f"{_CPU}/cpu{core}/cpufreq/scaling_cur_freq") for core in cores}),
        "most_clock_khz": _known({core: number(f"{_CPU}/cpu{core}/cpufreq/cpuinfo_max_freq") for core in cores}),
        "governor": line(f"{_CPU}/cpu{cores[0] if cores else 0}/cpufreq/scaling_governor"),
        "millidegrees": max((value for value in temperatures if value is not None), default=None),
    }
    return {key: value for key, value in facts.items() if value not in (None, {}, [])}


def processors(cpuinfo: str) -> list[str]:
    """The kinds of core in the text of ``/proc/cpuinfo``, each once."""
    kinds = []
    for block in cpuinfo.split("\n\n"):
        fields = [[part.strip() for part in line.split(":", 1)] for line in block.splitlines() if ":" in line]
        values = {field[0]: field[1] for field in fields}
        kinds.append(", ".join(f"{name} {values[name]}" for name in _PROCESSOR_FIELDS if values.get(name)))
    return [kind for kind in dict.fromkeys(kinds) if kind]


def parse_cores(text: str) -> list[int]:
    """Core numbers of a list as Linux writes it, ``0-3,6``."""
    cores: list[int] = []
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        if first.isdigit() and (last or first).isdigit():
            cores += range(int(first), int(last or first) + 1)
    return cores


def _known(values: dict[int, int | None]) -> dict[str, int]:
    return {str(core): value for core, value in values.items() if value is not None}

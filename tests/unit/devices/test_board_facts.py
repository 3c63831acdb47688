"""Facts of made-up boards."""

from __future__ import annotations

from ofa_tvm.devices.rpc.board_facts import board_facts, parse_cores, processors

BIG = "processor : 4\nBogoMIPS : 2\nCPU implementer : 0x41\nCPU part : 0xd0b\nCPU revision : 0\n"
LITTLE = BIG.replace("0xd0b", "0xd05")
CPU = "/sys/devices/system/cpu"
BOARD = {
    "/proc/device-tree/model": "Some Board Rev 1.1\0",
    "/proc/sys/kernel/hostname": "board\n",
    "/proc/cpuinfo": "\n".join([LITTLE, LITTLE, BIG]),
    f"{CPU}/online": "0-1,4\n",
    f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    f"{CPU}/cpu4/cpufreq/scaling_cur_freq": "2400000\n",
    f"{CPU}/cpu4/cpufreq/cpuinfo_max_freq": "2400000\n",
    f"{CPU}/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "/sys/class/thermal/thermal_zone0/temp": "41000\n",
    "/sys/class/thermal/thermal_zone2/temp": "52500\n",
    "/sys/class/thermal/thermal_zone3/temp": "error",
}


def test_a_board_with_big_and_little_cores():
    kind = "CPU implementer 0x41, CPU part {}, CPU revision 0"
    assert board_facts(BOARD.get) == {
        "model": "Some Board Rev 1.1",
        "name": "board",
        "processors": [kind.format("0xd05"), kind.format("0xd0b")],
        "cores_online": "0-1,4",
        "clock_khz": {"0": 600000, "4": 2400000},
        "most_clock_khz": {"4": 2400000},
        "governor": "ondemand",
        "millidegrees": 52500,
    }


def test_a_board_that_tells_nothing():
    assert board_facts(lambda path: None) == {}
    assert board_facts(lambda path: "\n") == {}


def test_lists_of_cores():
    assert parse_cores("0-3,6") == [0, 1, 2, 3, 6]
    assert parse_cores("") == parse_cores("none,x-2") == []


def test_an_x86_processor():
    assert processors("model name\t: Some CPU: fast\nflags : a b\n\nmodel name\t: Some CPU: fast\n") == [
        "model name Some CPU: fast"
    ]

"""The counting plugin's two forms of output say the same of one program."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter

import pytest

from ofa_tvm.devices.emulation.instruction_counts import count_blocks, count_code

COMPILER, TRIPLE, CPU = "aarch64-linux-gnu-gcc", "aarch64-linux-gnu", "cortex-a76"
NEEDED = [COMPILER, "qemu-aarch64", "setarch", "gcc"]
MISSING = [tool for tool in NEEDED if shutil.which(tool) is None]
ROUNDS = 4321
MARK = bytes.fromhex("e9dd97d2")
"""movz x9, #0xbeef"""
PROGRAM = f"""
int main(void) {{
  for (int i = 0; i < {ROUNDS}; ++i) __asm__ volatile("movz x9, #0xbeef" ::: "x9");
  return 0;
}}
"""

pytestmark = [pytest.mark.arm, pytest.mark.skipif(bool(MISSING), reason=f"missing: {', '.join(MISSING)}")]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("counted") / "program"
    subprocess.run([COMPILER, "-O1", "-static", "-x", "c", "-", "-o", path], input=PROGRAM, text=True, check=True)
    return [str(path)]


def test_blocks_with_code_are_those_without(program):
    plain: Counter[tuple[int, int]] = Counter()
    coded: Counter[tuple[int, int]] = Counter()
    for address, length, runs in count_blocks(program, TRIPLE, CPU, 60):
        plain[address, length] += runs
    for (address, code), runs in count_code(program, TRIPLE, CPU, 60).items():
        coded[address, len(code) // 4] += runs
    here = {key: runs for key, runs in plain.items() if runs > ROUNDS // 2}
    assert here
    assert here == {key: coded[key] for key in here}


def test_a_loop_is_counted_exactly(program):
    counted = count_code(program, TRIPLE, CPU, 60)
    assert sum(runs for (_, code), runs in counted.items() if MARK in code) == ROUNDS

"""How often each instruction of a program runs, counted under qemu."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path

from ofa_tvm.support.c_library import c_compiler, run_compiler
from ofa_tvm.support.errors import OfaTvmError, UserError
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.made_again import compiled_folder, made
from ofa_tvm.support.shipped import shipped_folder

INSTALL_QEMU = "install it, e.g. apt install qemu-user"


def emulator(triple: str | None) -> str:
    """The qemu command that runs programs of a target triple.

    Raises:
        UserError: it is not installed.
    """
    name = f"qemu-{(triple or 'x86_64').split('-')[0]}"
    if shutil.which(name) is None:
        raise UserError(f"{name} is not installed", INSTALL_QEMU)
    return name


@lru_cache(maxsize=1)
def counting_plugin() -> Path:
    """The plugin of ``tools/block_counts``, built once into the user's cache.

    Raises:
        OfaTvmError: it cannot be built.
    """
    source = shipped_folder("tools") / "block_counts" / "block_counts.c"
    compiler = c_compiler()
    if compiler is None:
        raise UserError("the instruction counter cannot be built: no C compiler was found", "apt install gcc")
    command = [compiler, "-O2", "-shared", "-fPIC", "-w", str(source), "-o"]
    return made(
        compiled_folder() / f"block_counts-{sha256_file(source)[:16]}.so",
        lambda to: run_compiler([*command, str(to)], "the instruction counter could not be built"),
    )


def count_blocks(program: list[str], triple: str | None, cpu: str, timeout_s: float) -> list[tuple[int, int, int]]:
    """Run a program of a target and count.

    Args:
        program: the command.
        triple: the target's triple.
        cpu: what qemu emulates.
        timeout_s: seconds that it may take.

    Returns:
        (address, instructions, runs) of each block that ran.

    Raises:
        OfaTvmError: the program failed.
    """
    lines = _counted([emulator(triple)], program, cpu, "", timeout_s)
    return [tuple(map(int, line.split())) for line in lines]  # type: ignore[misc]


def count_code(program: list[str], triple: str | None, cpu: str, timeout_s: float) -> Counter[tuple[int, bytes]]:
    """Runs of each block of a program, by its address and code; for the rest see ``count_blocks``.

    Libraries lie at the same addresses in every run.
    """
    command = ["setarch", "-R", emulator(triple)]
    counts: Counter[tuple[int, bytes]] = Counter()
    for line in _counted(command, program, cpu, ",bytes=1", timeout_s):
        address, _, runs, code = line.split()
        counts[int(address), bytes.fromhex(code)] += int(runs)
    return counts


def _counted(command: list[str], program: list[str], cpu: str, options: str, timeout_s: float) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        counts = Path(folder) / "counts.txt"
        command = [*command, "-cpu", cpu, "-plugin", f"{counting_plugin()},out={counts}{options}", *program]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
        if done.returncode != 0:
            raise OfaTvmError(f"the program ended with {done.returncode} under qemu: {done.stderr.strip()[-300:]}")
        return counts.read_text().splitlines()


def instruction_counts(blocks: list[tuple[int, int, int]], addresses: list[int]) -> Counter[int]:
    """Runs of each instruction.

    Args:
        blocks: of ``count_blocks``; they may overlap, and they end at page boundaries.
        addresses: of the instructions of interest, in order.
    """
    places = {address: index for index, address in enumerate(addresses)}
    counts: Counter[int] = Counter()
    for start, length, runs in blocks:
        first = places.get(start)
        if first is not None:
            for address in addresses[first : first + length]:
                counts[address] += runs
    return counts

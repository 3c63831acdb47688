"""Cycles of machine code whose instruction counts are known, by LLVM's scheduling model of a CPU (llvm-mca).

The code is cut where the flow may branch or the counts change; each piece is simulated repeating itself, and its cycles
are multiplied by its runs. All loads hit the nearest cache, and branches are predicted.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ofa_tvm.support.errors import OfaTvmError, UserError

SIMULATED = 2000
"""Instructions that a piece is simulated for, at least twice over."""
MAX_ITERATIONS = 20
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
_BRANCH = re.compile(r"(b|b\.\w+|bl|blr|br|cbn?z|tbn?z|ret|j\w+|call\w*|ret\w*)(\s|$)")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its address and its text."""

    address: int
    text: str

    @property
    def is_branch(self) -> bool:
        """Whether the next instruction to run may be another than the next one in the file."""
        return _BRANCH.match(self.text) is not None


def llvm_tool(name: str, version: int) -> str:
    """Name of an LLVM tool of a version.

    Raises:
        UserError: it is not installed.
    """
    tool = f"{name}-{version}"
    if shutil.which(tool) is None:
        raise UserError(f"{tool} is not installed", f"install it, e.g. apt install llvm-{version}")
    return tool


def disassemble(program: Path, symbol: str, llvm: int) -> list[Instruction]:
    """Instructions of a function.

    Raises:
        UserError: the disassembler is not installed.
        OfaTvmError: the program does not hold the function.
    """
    command = [llvm_tool("llvm-objdump", llvm), "-d", "--no-show-raw-insn", f"--disassemble-symbols={symbol}"]
    command += ["-M", "att"] if _is_x86(program) else []
    done = subprocess.run([*command, str(program)], capture_output=True, text=True, check=False)
    listing = [_instruction(match) for line in done.stdout.splitlines() if (match := _LINE.match(line))]
    if not listing:
        raise OfaTvmError(f"{program.name} holds no function {symbol}")
    return listing


def _is_x86(program: Path) -> bool:
    with program.open("rb") as file:
        return file.read(20)[18:20] == b"\x3e\x00"


def _instruction(match: re.Match[str]) -> Instruction:
    # Names of targets and comments mean nothing to an assembler, and an address is too far for an offset.
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>|//.*| #[^0-9-].*$", "", match[2])).strip()
    return Instruction(int(match[1], 16), re.sub(r"0x[0-9a-f]+$", "8", text) if _BRANCH.match(text) else text)


def pieces(code: Sequence[Instruction], counts: Mapping[int, int]) -> list[tuple[int, list[Instruction]]]:
    """Runs and instructions of each straight piece of code that ran."""
    stretches: list[tuple[int, list[Instruction]]] = []
    for before, instruction in pairwise([None, *code]):
        assert instruction is not None
        runs = counts.get(instruction.address, 0)
        if (
            runs
            and stretches
            and before is not None
            and not before.is_branch
            and stretches[-1][0] == runs == counts.get(before.address)
        ):
            stretches[-1][1].append(instruction)
        elif runs:
            stretches.append((runs, [instruction]))
    return stretches


def cycles(
    stretches: Sequence[tuple[int, list[Instruction]]], triple: str | None, cpu: str, options: Sequence[str], llvm: int
) -> float:
    """Cycles of all pieces.

    Args:
        stretches: see ``pieces``.
        triple: of the target.
        cpu: the model's name.
        options: further options of llvm-mca.
        llvm: its version.

    Raises:
        UserError: llvm-mca is not installed.
        OfaTvmError: it does not understand the code.
    """
    total = 0.0
    by_length: dict[int, list[tuple[int, list[Instruction]]]] = {}
    for runs, piece in stretches:
        iterations = max(2, min(MAX_ITERATIONS, SIMULATED // len(piece)))
        by_length.setdefault(iterations, []).append((runs, piece))
    for iterations, group in by_length.items():
        simulated = _simulate([piece for _, piece in group], iterations, triple, cpu, options, llvm)
        total += sum(runs * each for (runs, _), each in zip(group, simulated, strict=True))
    return total


def _simulate(
    stretches: Sequence[Sequence[Instruction]],
    iterations: int,
    triple: str | None,
    cpu: str,
    options: Sequence[str],
    llvm: int,
) -> list[float]:
    """Cycles of one run of each piece."""
    lines = []
    for number, piece in enumerate(stretches):
        lines += [
            f"# LLVM-MCA-BEGIN {number}",
            *(instruction.text for instruction in piece),
            f"# LLVM-MCA-END {number}",
        ]
    command = [llvm_tool("llvm-mca", llvm), f"-mtriple={triple or 'x86_64-linux-gnu'}", f"-mcpu={cpu}", "-json"]
    command += [f"-iterations={iterations}", "-noalias=true", *options, "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False)
    try:
        regions = json.loads(done.stdout)["CodeRegions"]
    except (json.JSONDecodeError, KeyError) as error:
        raise OfaTvmError(f"llvm-mca did not understand the code: {done.stderr.strip()[-300:]}") from error
    total = {int(region["Name"]): region["SummaryView"]["TotalCycles"] / iterations for region in regions}
    return [total[number] for number in range(len(stretches))]

"""What whole programs execute on 64-bit ARM, in instructions and in cycles of LLVM's model of the CPU."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ofa_tvm.devices.estimate.cycle_model import Instruction, cycles, llvm_tool
from ofa_tvm.hardware.target import Estimate
from ofa_tvm.support.errors import OfaTvmError

TRIPLE = "aarch64-linux-gnu"
LENGTH = 4
KEPT = 0.995
"""Share of the instructions whose cycles are simulated; the rest, in code that hardly runs, is left out."""
MAX_NEGATIVE = 0.01
"""Share of counts that may fall with more inferences, since no two starts are alike."""

SKIP_ATOMICS = "-skip-unsupported-instructions=lack-sched"
"""The models know no atomic instructions; a few hundred run."""

Counts = Counter[tuple[int, bytes]]
"""Runs of each block, by address and code."""
Ranges = Sequence[tuple[int, int]]
Piece = tuple[int, list[Instruction]]
"""Runs, and instructions."""

_CONDITIONAL = re.compile(r"(b\.\w+|cbn?z|tbn?z) ")
_STORE_THEN_MOVE = re.compile(r"(st.*)\[(\w+)\], (#?-?\w+)$")
_MOVE_THEN_STORE = re.compile(r"(st.*)\[(\w+), (#-?\w+)\]!$")


class NotComparable(OfaTvmError):
    """Two runs of a program differ in more than the inferences."""


@dataclass(frozen=True)
class Cost:
    """One inference: instructions, cycles, and the instructions of code that was left out by its address."""

    instructions: float
    cycles: float
    ignored: float


def cost_of_one(few: Counts, many: Counts, inferences: int, ignored: Ranges, model: Estimate) -> Cost:
    """The cost of one inference from two runs of a program.

    Args:
        few: blocks of the run with fewer inferences.
        many: blocks of the other.
        inferences: how many more it made.
        ignored: addresses of code that does not count.
        model: of the CPU.

    Raises:
        NotComparable: the runs differ in more than the inferences.
        OfaTvmError: some code cannot be understood.
    """
    words: dict[int, bytes] = {}
    counts: Counter[int] = Counter()
    left_out = 0
    # Blocks of two runs may begin and end elsewhere; their instructions are the same.
    for start, code in few.keys() | many.keys():
        more = many[start, code] - few[start, code]
        if more and any(low <= start < high for low, high in ignored):
            left_out += more * (len(code) // LENGTH)
        elif more:
            for at in range(0, len(code), LENGTH):
                words[start + at] = code[at : at + LENGTH]
                counts[start + at] += more
    counted = sum(runs for runs in counts.values() if runs > 0)
    fell = -sum(runs for runs in counts.values() if runs < 0)
    if fell > MAX_NEGATIVE * counted:
        raise NotComparable(f"two runs of a program cannot be compared: {fell} of {counted} counts fell")
    texts = _disassembled(set(words.values()), model.llvm)
    listing = [Instruction(address, texts[words[address]]) for address in sorted(words) if counts[address] > 0]
    kept = [(runs, _cracked(piece)) for runs, piece in _most_run(_pieces(listing, counts), KEPT * counted)]
    simulated = cycles(kept, TRIPLE, model.mca_cpu, [*model.mca_options, SKIP_ATOMICS], model.llvm)
    return Cost(counted / inferences, simulated / inferences, left_out / inferences)


def _pieces(code: Sequence[Instruction], counts: Counter[int]) -> list[Piece]:
    """Straight pieces of code. A branch that is never taken ends none, so that what a loop resets stays in it."""
    found: list[Piece] = []
    for one in code:
        before = found[-1][1][-1] if found else None
        if (
            before is not None
            and before.address + LENGTH == one.address
            and counts[before.address] == counts[one.address]
            and (not before.is_branch or _CONDITIONAL.match(before.text))
        ):
            found[-1][1].append(one)
        else:
            found.append((counts[one.address], [one]))
    return found


def _cracked(piece: Sequence[Instruction]) -> list[Instruction]:
    """Stores that move their address as two instructions, else the model's next address waits for the data."""
    found = []
    for one in piece:
        if moved := _STORE_THEN_MOVE.match(one.text):
            texts = [f"{moved[1]}[{moved[2]}]", _added(moved[2], moved[3])]
        elif moved := _MOVE_THEN_STORE.match(one.text):
            texts = [_added(moved[2], moved[3]), f"{moved[1]}[{moved[2]}]"]
        else:
            texts = [one.text]
        found += [Instruction(one.address, text) for text in texts]
    return found


def _added(register: str, offset: str) -> str:
    operation, offset = ("sub", offset.replace("-", "")) if offset.startswith("#-") else ("add", offset)
    return f"{operation} {register}, {register}, {offset}"


def _most_run(found: list[Piece], enough: float) -> list[Piece]:
    kept, total = [], 0
    for runs, piece in sorted(found, key=lambda item: -item[0] * len(item[1])):
        if total >= enough:
            break
        kept.append((runs, piece))
        total += runs * len(piece)
    return kept


def _disassembled(words: set[bytes], llvm: int) -> dict[bytes, str]:
    """Text of each instruction."""
    ordered = sorted(words)
    command = [llvm_tool("llvm-mc", llvm), "--disassemble", f"-triple={TRIPLE}", "-mattr=+all"]
    lines = "\n".join(" ".join(f"0x{byte:02x}" for byte in word) for word in ordered) + "\n"
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    texts = [re.sub(r"\s+", " ", line.split("//")[0]).strip() for line in done.stdout.splitlines()]
    # A call counts as a branch: llvm-mca takes 100 cycles for one.
    texts = [re.sub(r"^(bl|blr) ", lambda found: found[0].replace("l", ""), text) for text in texts]
    texts = [text for text in texts if text and not text.startswith(".")]
    if len(texts) != len(ordered):
        raise OfaTvmError(f"some instructions cannot be disassembled: {done.stderr.strip()[-300:]}")
    return dict(zip(ordered, texts, strict=True))

"""A million damaged inputs over every reader: no traceback, no hang, nothing that is silently another value."""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from readers import READERS, Reader, changed, outcome, weights_reader

INPUTS = int(os.environ.get("OFA_TVM_FUZZ_INPUTS", "1000000"))
SEED = int(os.environ.get("OFA_TVM_FUZZ_SEED", "0"))
HANG_S = 20.0
"""A reader that takes longer hangs, even on a busy machine; the process ends with its stack."""
SLOW = {"OFA's predictor": 0.02, "accuracy predictor": 0.3, "pack's results": 0.3, "trees": 0.3, "weights": 0.3}
"""Shares of the inputs of readers whose files take long to change or to read, as multiples of the usual share."""


@pytest.mark.timeout(6 * 3600)
@pytest.mark.filterwarnings("ignore")
def test_a_million_damaged_inputs(tmp_path):
    problems: Counter[str] = Counter()
    done: Counter[str] = Counter()
    readers = (*READERS, weights_reader())
    whole = sum(SLOW.get(reader.name, 1) for reader in readers)
    for reader in readers:
        count = -(-INPUTS * SLOW.get(reader.name, 1) // whole)
        folder = tmp_path / reader.name
        folder.mkdir()
        start = time.monotonic()
        for found, content in outcomes(reader, folder, int(count)):
            done[found if found in ("read", "refused") else "wrong"] += 1
            if found not in ("read", "refused"):
                problems[f"{reader.name}: {found}"] += 1
                kept = tmp_path / f"wrong-{len(problems)}"
                if not kept.exists():
                    kept.write_bytes(content)
        print(f"{reader.name}: {int(count)} inputs, {time.monotonic() - start:.0f} s", file=sys.stderr)
    print(f"{done.total()} inputs: {dict(done)}; wrong ones in {tmp_path}", file=sys.stderr)
    assert not problems
    assert done.total() >= INPUTS


def outcomes(reader: Reader, folder: Path, count: int) -> Iterable[tuple[str, bytes]]:
    """What a reader does with changed samples, and each of them."""
    reader.write(folder)
    path, rng = folder / reader.file, random.Random(f"{reader.name} {SEED}")
    original, written = path.read_bytes(), reader.read(folder)
    try:
        for _ in range(count):
            content = changed(original, rng, reader.is_text)
            seal = reader.seal if rng.random() < 0.5 else None
            content = content if seal is None else seal(content)
            path.write_bytes(content)
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            yield outcome(reader, folder, written, is_sealed=reader.is_sealed and seal is None), content
    finally:
        faulthandler.cancel_dump_traceback_later()

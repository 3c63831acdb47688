"""The runner's library under sanitizers for minutes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import fuzzed_runner
import pytest
from runner_headers import decodes_pictures

TIMES = 300_000


@decodes_pictures
@pytest.mark.seconds(1800)
def test_damaged_files_do_no_harm(tmp_path):
    program = fuzzed_runner.build(tmp_path, "-O1").program(fuzzed_runner.FUZZER)
    fuzzed_runner.fuzz(tmp_path, program, 1, 0)
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda seed: fuzzed_runner.fuzz(tmp_path, program, TIMES, seed), (1, 2)):
            assert done.returncode == 0, done.stderr
            taken, refused = map(int, done.stdout.split())
            assert taken + refused == TIMES

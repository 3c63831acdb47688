"""What a bundle's program takes to start: the median of several processes, and nothing where there is none."""

from __future__ import annotations

import pytest

from ofa_tvm.bundle.startup import STARTS, measure_startup

LATE = """#!/bin/sh
echo . >> "$0.starts"
n=$(wc -l < "$0.starts")
[ $n = 2 ] && n=70
echo "{\\"benchmark\\": {\\"load_ms\\": $n, \\"first_ms\\": 0.5, \\"peak_memory_bytes\\": 5000000}}"
"""


def program(folder, text):
    (folder / "run").write_text(text)
    (folder / "run").chmod(0o755)
    return folder / "run"


def test_one_slow_start_is_not_what_is_told(tmp_path):
    found = measure_startup(program(tmp_path, LATE), tmp_path / "model.so")
    assert found is not None
    assert (found.load_ms, found.load_range_ms, found.starts) == (4, (1, 70), STARTS)
    assert (found.first_ms, found.first_range_ms, found.peak_memory_bytes) == (0.5, (0.5, 0.5), 5_000_000)


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 2", "#!/bin/sh\necho '{}'", "#!/bin/sh\necho no", "no program"])
def test_a_program_that_does_not_run_here_tells_nothing(tmp_path, text):
    assert measure_startup(program(tmp_path, text), tmp_path / "model.so") is None


def test_there_may_be_no_program(tmp_path):
    assert measure_startup(tmp_path / "run", tmp_path / "model.so") is None

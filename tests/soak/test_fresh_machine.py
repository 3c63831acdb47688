"""The README's first promise, in a clean clone: the demo ends with the bundle itself and leaves no trace in git."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


@pytest.mark.timeout(1800)
def test_demo_and_quick_in_a_clean_clone(clone: Path, home: dict[str, str]) -> None:
    done = subprocess.run(["make", "demo"], cwd=clone, env=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "WARNING" not in done.stderr, "pip's words stay in the log"
    answer = done.stdout.split("$ ./runs/demo-bundle/run")[1]
    assert re.search(r"\d+\.\d+ %  cat", answer)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == ""
    again = subprocess.run(["make", "quick"], cwd=clone, env=home, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout[-2000:]

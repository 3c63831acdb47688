"""The rules of the tiers hold: a unit test that is slow or heavy fails, and so does a skip of what was promised."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
BUSY = "import time\ndef work():\n    end = time.process_time() + 1.5\n    while time.process_time() < end: pass\n"
SKIPPED = "import pytest\n@pytest.mark.stb\n@pytest.mark.skipif(True, reason='gone')\ndef test_it(): pass\n"
EXPECTED = "import pytest\n@pytest.mark.stb\n@pytest.mark.xfail\ndef test_it(): assert 0\n"


@pytest.fixture
def run(tmp_path):
    """Run a file of tests under the rules of a tier, in a process of its own."""

    def result(rules: Path, text: str, *options: str) -> str:
        shutil.copy(rules, tmp_path / "conftest.py")
        shutil.copy(TESTS / "tiny.py", tmp_path)
        (tmp_path / "test_it.py").write_text(text)
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    seconds: n\n    stb: header\n")
        command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", *options, str(tmp_path)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    return result


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def test_it():\n    import torch\n", "a unit test imports torch"),
        ("import tvm\ndef test_it(): pass\n", "a unit test imports tvm"),
        (f"{BUSY}def test_it(): work()\n", "took 1 s of CPU time"),
        (f"import pytest\n{BUSY}@pytest.mark.seconds(20)\ndef test_it(): work()\n", "1 passed"),
        ("def test_it(): pass\n", "1 passed"),
    ],
    ids=["imports torch", "imports tvm at the top", "is slow", "asks for more", "is light"],
)
def test_a_unit_test_is_light(run, text, said):
    assert said in run(TESTS / "unit" / "conftest.py", text)


@pytest.mark.parametrize(
    ("text", "required", "said"),
    [
        (SKIPPED, "", "1 skipped"),
        (SKIPPED, " stb, ", "--require promises stb: Skipped: gone"),
        (EXPECTED, "stb", "1 xfailed"),
        (SKIPPED, "nonsense", "--require: no marker nonsense"),
    ],
    ids=["nothing promised", "promised", "expected to fail", "unknown"],
)
def test_a_promised_tool_may_not_be_missing(run, text, required, said):
    assert said in run(TESTS / "conftest.py", text, f"--require={required}")

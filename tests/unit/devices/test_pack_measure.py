"""The pack's own script: numbers that are equal everywhere, and result files that survive what happens to files."""

from __future__ import annotations

import base64
import json
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ofa_tvm.devices.pack import digests, forms, measure, pack_files
from ofa_tvm.devices.pack.alone import write_modules
from ofa_tvm.devices.pack.wholeness import what_lacks


def test_inputs_are_the_same_on_every_machine():
    values = digests.random_values(3, [2, 3], 0.5)
    assert values.dtype == np.float32
    assert values.tolist() == digests.random_values(3, [2, 3], 0.5).tolist()
    assert np.abs(digests.random_values(1, [10000], 1.0)).max() <= 1
    assert abs(float(digests.random_values(1, [10000], 1.0).mean())) < 0.02
    np.testing.assert_allclose(digests.random_values(1, [2], 1.0), [-0.45284319, 0.81248486], rtol=1e-6)


def test_outputs_that_must_be_equal_may_differ_in_nothing():
    levels, vector = np.arange(5000).astype(np.uint8), np.array([0.0, -1.5], np.float32)
    expected = digests.expectation([levels, vector], is_exact=True)
    assert not digests.complaint([levels, vector], expected, 0.0)
    assert not digests.complaint([levels, np.array([-0.0, -1.5], np.float32)], expected, 0.0), "zero is zero"
    one_level_off = np.where(np.arange(5000) == 4321, levels + np.uint8(1), levels)
    one_bit_off = np.nextafter(vector, np.float32(2))
    for wrong in ([one_level_off, vector], [levels, one_bit_off], [levels.view(np.int8), -vector], [levels]):
        assert "must equal" in digests.complaint(wrong, expected, 0.0)


def test_outputs_that_may_differ_are_told_by_how_much():
    output = np.linspace(-1, 1, 5000, dtype=np.float32)
    expected = digests.expectation([output], is_exact=False)
    assert not digests.complaint([output * np.float32(1.00001)], expected, 1e-4)
    assert "differs from the reference by 0.01" in digests.complaint([output * np.float32(1.01)], expected, 1e-4)
    assert digests.complaint([np.full_like(output, np.nan)], expected, 1e-4)


def test_a_wrong_value_anywhere_is_seen_in_the_digest():
    output = np.linspace(-1, 1, 5000, dtype=np.float32)
    expected = digests.sample([output])
    assert len(base64.b64decode(expected["values"])) == 4 * 256
    assert digests.difference(digests.sample([output]), expected) == 0
    for wrong in (output * 1.01, np.where(output > 0.9, 0, output), np.full_like(output, np.nan)):
        assert not digests.difference(digests.sample([wrong]), expected) < 1e-4


def test_damaged_lines_are_counted_and_left_out(tmp_path):
    path = tmp_path / "results.jsonl"
    for number in range(3):
        pack_files.append_line(path, {"id": number})
    lines = path.read_text().splitlines()
    lines[1] = lines[1].replace('"id": 1', '"id": 7')
    path.write_text("\n".join([*lines, "", "{", "[]", "null", '{"record": 1, "check": 2}']) + '\n{"rec')
    records, damaged = pack_files.read_lines(path)
    assert [record["id"] for record in records] == [0, 2]
    assert damaged == 6


def test_a_torn_last_line_does_not_spoil_the_next_one(tmp_path):
    path = tmp_path / "results.jsonl"
    pack_files.append_line(path, {"id": 0})
    with path.open("ab") as file:
        file.write(b'{"check": "ab')
    pack_files.append_line(path, {"id": 1})
    records, damaged = pack_files.read_lines(path)
    assert ([record["id"] for record in records], damaged) == ([0, 1], 1)


def test_bytes_that_are_no_text_are_a_damaged_line(tmp_path):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"\xff\xfe\x00\n")
    assert pack_files.read_lines(path) == ([], 1)
    assert pack_files.read_lines(tmp_path / "missing") == ([], 0)


PROGRAM = {"arguments": "a", "outputs": [], "output_bytes": 0}
ENTRY = {"id": "a", "title": "a", "form": "program", "library": "a.so.z", "files": {}, "expected": {}, **PROGRAM}
MANIFEST = {"round": "r", "files": {}, "measure": {"timeout_s": 1}, "device": "cpu", "machine": platform.machine()}


def _scripts(folder):
    write_modules(folder)
    return folder / "measure.py"


def test_the_script_knows_nothing_of_the_package(tmp_path):
    script = _scripts(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, "files": {"gone.so.z": "00"}}))
    pack_files.append_line(tmp_path / "entries.jsonl", ENTRY)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "gone.so.z: missing or damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_time_limit_leaves_the_rest_for_later(tmp_path):
    script = _scripts(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    pack_files.append_line(tmp_path / pack_files.ENTRIES, ENTRY)
    command = [sys.executable, script, "--minutes", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "0 measured, 1 left; run it again" in done.stdout


@pytest.mark.seconds(3)
@pytest.mark.parametrize(
    ("manifest", "odd", "said"),
    [
        (None, "", "manifest.json cannot be read"),
        ("{", "", "manifest.json cannot be read"),
        ("{}", "", "entries.jsonl is missing or holds nothing"),
        ("{}", "entries.jsonl", "entries.jsonl: no regular file"),
        ("{}", "results.jsonl", "results.jsonl: no regular file"),
    ],
)
def test_a_pack_that_was_copied_in_part_is_refused(tmp_path, manifest, odd, said):
    script = _scripts(tmp_path)
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    if odd:
        os.mkfifo(tmp_path / odd)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def _without(record, *names):
    return {name: value for name, value in record.items() if name not in names}


SUBNET = {**_without(ENTRY, *PROGRAM), "form": "subnet", "inputs": [], "outputs": [], "reference": {"id": "r"}}


@pytest.mark.parametrize(
    ("manifest", "entry", "said"),
    [
        ([], ENTRY, "manifest.json does not say round, files, machine, device, measure"),
        (_without(MANIFEST, "device"), ENTRY, "manifest.json does not say device"),
        ({**MANIFEST, "files": "none"}, ENTRY, "manifest.json does not say files"),
        ({**MANIFEST, "measure": {}}, ENTRY, "manifest.json does not say timeout_s"),
        (MANIFEST, {"id": "a"}, "entries.jsonl: entry 'a' does not say a known form"),
        (MANIFEST, {**ENTRY, "form": ["program"]}, "entry 'a' does not say a known form"),
        (MANIFEST, _without(ENTRY, "id", "files", "arguments"), "entry 'None' does not say id, files, arguments"),
        (MANIFEST, SUBNET, "entry 'a' does not say form, library, files, expected, inputs"),
        (MANIFEST, ENTRY, ""),
    ],
)
def test_sealed_lines_that_do_not_say_what_is_needed_are_refused(tmp_path, manifest, entry, said):
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    pack_files.append_line(tmp_path / pack_files.ENTRIES, ENTRY)
    pack_files.append_line(tmp_path / pack_files.ENTRIES, entry)
    lacks = what_lacks(tmp_path)
    assert said in lacks if said else not lacks


@pytest.mark.parametrize(
    ("odd", "left"),
    [
        ({"status": "ok", "times_ms": [0.5], "is_checked": True}, 0),
        ({"status": "ok", "times_ms": [0.5]}, 1),
        ({"status": "crashed"}, 0),
        ({"status": "ok", "times_ms": [float("nan")]}, 1),
        ({"status": "ok", "times_ms": [-0.5]}, 1),
        ({"status": "ok", "times_ms": []}, 1),
        ({"times_ms": [0.5]}, 1),
        ({"status": "ok", "times_ms": [0.5], "energy_mj": -1}, 1),
    ],
)
def test_results_that_cannot_be_are_measured_again(tmp_path, monkeypatch, odd, left, capsys):
    (tmp_path / "manifest.json").write_text(json.dumps(MANIFEST))
    pack_files.append_line(tmp_path / pack_files.ENTRIES, ENTRY)
    pack_files.append_line(tmp_path / pack_files.RESULTS, {"round": "r", "id": "a", **odd})
    monkeypatch.setattr(measure, "__file__", str(tmp_path / "measure.py"))
    monkeypatch.setattr("sys.argv", ["measure.py", "--minutes", "0"])
    assert measure.main() == 0
    said = capsys.readouterr()
    assert f"0 measured, {left} left" in said.out
    assert ("1 damaged lines" in said.err) == bool(left)


def test_without_a_driver_no_entry_is_tried(tmp_path, monkeypatch, capsys):
    (tmp_path / "manifest.json").write_text(json.dumps({**MANIFEST, "device": "cuda"}))
    pack_files.append_line(tmp_path / pack_files.ENTRIES, ENTRY)
    monkeypatch.setattr(measure, "__file__", str(tmp_path / "measure.py"))
    monkeypatch.setattr(measure, "DRIVER", "libcuda-is-not-here.so.1")
    monkeypatch.setattr("sys.argv", ["measure.py"])
    assert measure.main() == 1
    said = capsys.readouterr().err
    assert "NVIDIA's driver is missing on this machine" in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / pack_files.RESULTS).exists()


class Gpu:
    """A clock that calls move on, and a counter that looks at a GPU of 200 W every 30 ms."""

    def __init__(self, counts: bool = True) -> None:
        self.seconds, self.counts = 0.0, counts

    def repeat(self) -> int:
        """Eleven calls of a millisecond."""
        self.seconds += 0.011
        return 11

    def millijoules(self) -> float | None:
        self.seconds += 1e-6
        return 200e3 * 0.03 * (self.seconds // 0.03) if self.counts else None


def test_energy_of_a_call_is_that_between_two_steps_of_the_counter(monkeypatch):
    gpu = Gpu()
    monkeypatch.setattr(forms, "gpu_millijoules", gpu.millijoules)
    monkeypatch.setattr(forms, "time", SimpleNamespace(monotonic=lambda: gpu.seconds))
    energy_mj = forms.energy_mj(gpu.repeat)
    assert energy_mj == pytest.approx(200, rel=0.05)
    assert forms.ENERGY_S < gpu.seconds < 1.5 * forms.ENERGY_S


@pytest.mark.parametrize("is_still", [True, False])
def test_what_is_not_counted_has_no_energy(monkeypatch, is_still):
    gpu = Gpu(counts=False)
    monkeypatch.setattr(forms, "gpu_millijoules", (lambda: 5.0) if is_still else gpu.millijoules)
    monkeypatch.setattr(forms, "time", SimpleNamespace(monotonic=lambda: gpu.seconds))
    assert forms.energy_mj(gpu.repeat) is None
    assert gpu.seconds < 5 * forms.ENERGY_S


def test_outputs_of_bfloat16_are_compared_as_numbers():
    values = np.linspace(-1, 1, 5000, dtype=np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    expected = digests.expectation([bits], is_exact=False)
    assert expected["largest"] == 1
    assert not digests.complaint([bits + np.uint16(1)], expected, 1e-2)
    assert "differs" in digests.complaint([bits ^ np.uint16(0x8000)], expected, 1e-2)

"""Every reader takes its sample, refuses what is damaged in words, and takes nothing that cannot be."""

from __future__ import annotations

import json
import math
import os
import random
import warnings

import pytest
from readers import READERS, Reader, changed, outcome, same

from ofa_tvm.hardware.recording import read_log_manifest
from ofa_tvm.support.errors import UserError

pytestmark = [pytest.mark.seconds(8), pytest.mark.filterwarnings("ignore::SyntaxWarning")]
INPUTS = 60
PIPES = ("facts.json", "own.json", "note.yaml", "latencies.jsonl")
"""What a user names may be a pipe; or stands within another file."""


@pytest.fixture(params=READERS, ids=lambda reader: reader.name)
def reader(request: pytest.FixtureRequest) -> Reader:
    found: Reader = request.param
    return found


@pytest.fixture
def folder(reader, tmp_path):
    reader.write(tmp_path)
    return tmp_path


def test_damage_is_refused_in_words_or_changes_nothing_that_counts(reader, folder):
    path, rng = folder / reader.file, random.Random(reader.name)
    original = path.read_bytes()
    written = reader.read(folder)
    for _ in range(INPUTS):
        content = changed(original, rng, reader.is_text)
        seal = reader.seal if rng.random() < 0.5 else None
        path.write_bytes(content if seal is None else seal(content))
        assert outcome(reader, folder, written, is_sealed=reader.is_sealed and seal is None) in ("read", "refused")


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: b"\xef\xbb\xbf" + content,
        lambda content: content.replace(b"\n", b"\r\n"),
    ],
    ids=["byte order mark", "line ends"],
)
def test_marks_of_editors_make_no_difference(reader, folder, edit):
    if not reader.is_text or reader.file in ("facts.json", "own.json"):
        pytest.skip("no file that an editor changes")
    written = reader.read(folder)
    path = folder / reader.file
    path.write_bytes(edit(path.read_bytes()))
    assert same(reader.read(folder), written)


def test_what_is_no_text_is_refused(reader, folder):
    (folder / reader.file).write_bytes(b"\xff\x00" * 50 + b"\n")
    with warnings.catch_warnings(), pytest.raises(UserError):
        reader.read(folder)


NUMBERS: tuple[object, ...] = (math.nan, math.inf, -1, 1e30, True, "fast", 10**400, [1], {})
"""No times, and no counts."""
NONSENSE: dict[str, dict[str, tuple[object, ...]]] = {
    "kernels": {
        "best_ms": (0, *NUMBERS),
        "default_ms": (0, *NUMBERS),
        **dict.fromkeys(("trials", "failures", "since_best"), (1.5, None, *NUMBERS)),
        "schedule": (3, "abc", []),
        "source": (5, None, []),
        "kernel": (5, None, []),
    },
    "trials": {"time_ms": (0, *NUMBERS), "number": (0, 1.5, *NUMBERS), "digest": (5, None), "status": ("splendid", 5)},
    "latency records": {
        "times_ms": (None, [[0.2]], [0], [math.nan], [True], ["fast"], [10**400], 0.2),
        "reference_ms": (None, [[0.5]], [0], [-1], [math.inf], ["fast"], [10**400], 0.5),
        "subnet": (5, None, True, [], "", "r24", "small", "r" + "9" * 5000 + ".3x2"),
        "status": ("splendid", None),
        "figures": (3, [3]),
    },
    "tuning log's manifest": {
        "schema_version": (0, None, True, "1", 1.0),
        "reference_ms": (0, *NUMBERS),
    },
}


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in NONSENSE.items() for field in fields])
def test_a_value_that_cannot_be_is_refused_with_its_field(tmp_path, name, field):
    (reader,) = (one for one in READERS if one.name == name)
    reader.write(tmp_path)
    reader.read(tmp_path)
    path = tmp_path / reader.file
    first, *rest = path.read_text().splitlines() if reader.file.endswith(".jsonl") else [path.read_text()]
    for value in NONSENSE[name][field]:
        path.write_text("\n".join([json.dumps({**json.loads(first), field: value}), *rest, ""]))
        with pytest.raises(UserError, match=r"is damaged|schema_version") as caught:
            reader.read(tmp_path)
        assert field in str(caught.value), value
        assert str(tmp_path) in str(caught.value)
        assert "line 1" in str(caught.value) or not rest


@pytest.mark.timeout(10)
def test_a_pipe_is_refused_at_once(reader, folder):
    if reader.file in ("facts.json", "own.json", "note.yaml", "latencies.jsonl") or reader.name.startswith(
        "subnets in"
    ):
        pytest.skip("it may be a pipe")
    (folder / reader.file).unlink()
    os.mkfifo(folder / reader.file)
    with pytest.raises(UserError):
        reader.read(folder)


def test_a_later_version_is_told_as_such(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text('{"schema_version": 2, "conditions": {}, "surprise": 1}')
    with pytest.raises(UserError, match=r"is of a later ofa_tvm: .* version 2, this one reads 1\n  use the version"):
        read_log_manifest(tmp_path)

"""JSON is read with limits, and written so that every other reader takes it."""

from __future__ import annotations

import json
import re

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter

from ofa_tvm.support.command import emit
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.json_text import MAX_DEPTH, json_text, parse_json
from ofa_tvm.support.sealed import read_sealed, write_sealed
from ofa_tvm.support.typed import read_form


class _Empty(BaseModel):
    model_config = ConfigDict(extra="forbid")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, -2.5, "x", null, true]}',
        '{"big": 9223372036854775807, "\\u00e9": "\\ud83d\\ude00"}',
        "[" * MAX_DEPTH + "]" * MAX_DEPTH,
        '"NaN"',
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_json_is_read_as_it_stands(text, mark):
    assert parse_json(mark + text) == parse_json((mark + text).encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": {"b": [1, NaN]}}', "key 'a.b.1': NaN is no number"),
        ("-Infinity", "-Infinity is no number"),
        ('{"a": 1e999}', "key 'a': 1e999 is too large"),
        ('{"a": 1%s}' % ("0" * 5000), "key 'a': a number of 5001 digits"),
        ('{"a": 9223372036854775808}', "needs more than 64 bits"),
        ('{"a": 1, "b": 2, "a": 1}', "key 'a': the key comes twice"),
        ('{"%s": NaN}' % ("a" * 5000), f"key '{40 * 'a'}... (5000 letters)': NaN is no number"),
        ('[{"a": 1, "a": 1}]', "key '0.a': the key comes twice"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested more than 64 deep"),
        ("[" * 100_000, "nested more than 64 deep"),
        ('{"a": 1, "a": ' + '{"b": ' * 3000, "nested more than 64 deep"),
        ('"\\ud800"', "half a character"),
        ('{"a\\u0000": 1}', "NUL"),
        ('{"a": 1,\n "b": }', "line 2 column 7"),
        ("", "Expecting value"),
        (b"\xff{}", "can't decode byte 0xff"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_refused_is_named(text, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        parse_json(text)


def test_numbers_that_are_not_finite_are_written_as_null(capsys):
    value = {"a": [float("nan"), 1.5], "b": (float("inf"),)}
    assert parse_json(json_text(value)) == {"a": [None, 1.5], "b": [None]}
    emit(value, True, str)
    assert parse_json(capsys.readouterr().out) == {"schema_version": 1, "a": [None, 1.5], "b": [None]}


def test_a_sealed_file_is_what_was_written_or_refused(tmp_path):
    path = tmp_path / "model.json"
    content = {"numbers": (1.5, 0.1 + 0.2), "quality": float("nan")}
    write_sealed(path, content)
    assert read_sealed(path, "model", "") == {"numbers": [1.5, 0.1 + 0.2], "quality": None}
    text = path.read_text()
    path.write_text(json.dumps(json.loads(text)))  # laid out differently
    read_sealed(path, "model", "")
    for damage, said in (
        (text.replace("1.5", "1.6"), "not what its hash says"),
        (text.replace('"quality"', '"more": 1, "quality"'), "not what its hash says"),
        (text.replace('"sha256"', '"sha255"'), "carries no hash"),
        ("[]", "no JSON object"),
    ):
        path.write_text(damage)
        with pytest.raises(UserError, match=said):
            read_sealed(path, "model", "fit it again")


def test_a_key_of_a_form_is_shown_as_far_as_it_helps(tmp_path):
    (path := tmp_path / "file.json").write_text(json.dumps({"k\x1b" + 5000 * "k": 1}))
    with pytest.raises(UserError, match=r"unknown key 'k\?k{38}\.\.\. \(5002 letters\)'"):
        read_form(path, "file", TypeAdapter(_Empty), "")

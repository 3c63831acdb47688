"""What an earlier search left in a folder."""

from __future__ import annotations

import json

import pytest

from ofa_tvm.nas.earlier import check_folder, files_of, set_aside
from ofa_tvm.support.errors import UserError

RESULT = json.dumps({"schema_version": 1, "space": "mbv3", "target": "x86", "picks": []})
MATRIX = json.dumps({"schema_version": 1, "regret": [{"shipped": "x86", "on": "arm"}]})


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize("name", ["result.json", "earlier-result.json", "earlier-result-2.json", "arm/result.json"])
def test_a_folder_is_known_by_any_result(tmp_path, name):
    write(tmp_path, {name: RESULT})
    check_folder(tmp_path, ["x86", "arm"])


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"earlier-result.json": '{"my": "data"}'}, "holds something else: earlier-result.json"),
        ({"result.json": '{"my": "data"}'}, "result.json is not of a search"),
        ({"ledger.jsonl": "", "result.json": "[1]"}, "result.json is not of a search"),
        ({"result.json": RESULT, "arm/result.json": "{}"}, "arm/result.json is not of a search"),
        ({"result.json": RESULT, "regret.json": '["much"]'}, "regret.json is not of a search"),
    ],
)
def test_files_of_others_are_refused(tmp_path, files, said):
    write(tmp_path, files)
    with pytest.raises(UserError, match=said):
        check_folder(tmp_path, ["x86", "arm"])


def test_only_parts_of_the_search_are_its_files(tmp_path):
    others = {"arm/result.json": "{}", "b/result.json": RESULT}
    write(tmp_path, {"regret.json": MATRIX, "x86/result.json": RESULT, **others})
    assert files_of(tmp_path) == {tmp_path / name for name in ("result.json", "regret.json", "x86/result.json")}


def test_nothing_is_written_over(tmp_path):
    for number in range(3):
        write(tmp_path, {"result.json": str(number)})
        set_aside([tmp_path / "result.json", tmp_path / "regret.json"])
    kept = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert kept == {"earlier-result.json": "0", "earlier-result-2.json": "1", "earlier-result-3.json": "2"}

"""A visit to a GPU, rehearsed with scripts in the places of packs and bundles."""

from __future__ import annotations

import json
import sys
import tarfile

import gpu_visit
import pytest

pytestmark = pytest.mark.seconds(3)
PACK = """import pathlib, sys
results = pathlib.Path("results.jsonl")
seen = results.read_text().count("\\n") if results.exists() else 0
with results.open("a") as file:
    file.write("a result\\n")
print("1 measured, 0 left; send results.jsonl back" if seen else "1 measured, 1 left; run it again to go on")
"""
SLOW = "import time\nprint('begun', flush=True)\ntime.sleep(60)\n"


@pytest.fixture
def visit(tmp_path):
    folder = tmp_path / "visit"
    for name, files in {
        "a-pack": {"measure.py": PACK, "entries.jsonl": '{"record": {"candidate": "x"}}\n'},
        "b-bundle": {"run": f"#!{sys.executable}\nprint('{{\"benchmark\": 1}}')\n", "manifest.json": "{}"},
    }.items():
        (folder / name).mkdir(parents=True)
        for file, text in files.items():
            (folder / name / file).write_text(text)
    (folder / "b-bundle" / "run").chmod(0o755)
    return folder


def visited(visit, *options):
    return gpu_visit.main([str(visit), "--skip", "gpu", "tests", *options])


def names_in(archive):
    with tarfile.open(archive) as file:
        return sorted(file.getnames())


def test_a_visit_brings_home_what_there_is_and_goes_on_with_the_rest(visit, capsys):
    assert visited(visit) == 0
    archive = visit.with_name("visit.tar.gz")
    assert names_in(archive) == ["a-pack/results.jsonl", "b-bundle/benchmark.json", "visit.jsonl"]
    assert json.loads((visit / "b-bundle" / "benchmark.json").read_text()) == {"benchmark": 1}
    said = capsys.readouterr()
    assert "1/2 measure a-pack: ok" in said.err
    assert f"2 of 2 steps went well; {archive} is what to bring home" in said.out
    assert visited(visit) == 0, "the pack has one more"
    assert "1/1 measure a-pack: ok" in capsys.readouterr().err
    assert visited(visit) == 0
    assert "0 of 0 steps" in capsys.readouterr().out


def test_a_step_that_fails_or_hangs_does_not_lose_the_others(visit, capsys):
    (visit / "a-pack" / "measure.py").write_text(SLOW)
    (visit / "b-bundle" / "run").write_text("#!/bin/sh\necho 'no driver' >&2\nexit 3\n")
    assert visited(visit, "--minutes", "0.05") == 1
    said = capsys.readouterr().err
    assert "measure a-pack: took too long" in said
    assert "run b-bundle: exit 3" in said
    assert "no driver" in said
    assert names_in(visit.with_name("visit.tar.gz")) == ["visit.jsonl"]
    (slow, _) = map(json.loads, (visit / "visit.jsonl").read_text().splitlines())
    assert (slow["code"], slow["said"]) == (None, "begun\n")


def test_no_time_and_files_that_are_too_large(visit, capsys, monkeypatch):
    assert visited(visit, "--minutes", "0") == 1
    assert "2 steps wait for a second run" in capsys.readouterr().err
    monkeypatch.setattr(gpu_visit, "MOST_BYTES", 1)
    assert visited(visit) == 0
    assert "too large for visit.tar.gz: " in capsys.readouterr().err


def test_subnets_of_a_pack_are_compared_and_bundles_need_no_pack(visit):
    (visit / "a-pack" / "entries.jsonl").write_text('{"record": {"subnet": "r24"}}\n')
    assert [step.name for step in gpu_visit.steps(visit)] == [
        "gpu",
        "measure a-pack",
        "run b-bundle",
        "peers a-pack",
        "tests",
    ]


def test_a_pack_of_kernels_from_templates_is_timed_beside_the_other_one(visit):
    for name in ("a-pack", "a-pack-templates", "c-templates"):
        (visit / name).mkdir(exist_ok=True)
        (visit / name / "measure.py").write_text(PACK)
        (visit / name / "entries.jsonl").write_text('{"record": {"subnet": "r24"}}\n')
    commands = {step.name: step.command for step in gpu_visit.steps(visit) if step.name.startswith("peers")}
    assert list(commands) == ["peers a-pack", "peers c-templates"]
    assert commands["peers a-pack"][-2:] == ("--beside", str(visit / "a-pack-templates"))
    assert commands["peers c-templates"][-1] == str(visit / "c-templates")


def test_a_damaged_ledger_and_output_that_is_no_text_cost_only_their_step(visit, capsys):
    (visit / "visit.jsonl").write_text('{"step": "x"}\n{"step": "run b-bundle", "code": 0')
    (visit / "a-pack" / "entries.jsonl").unlink()
    (visit / "b-bundle" / "run").write_text("#!/bin/sh\nprintf '\\377'\n")
    assert visited(visit) == 0
    assert "a damaged line is left out" in capsys.readouterr().err
    assert '"step": "measure a-pack"' in (visit / "visit.jsonl").read_text().splitlines()[2]


def test_an_archive_that_cannot_be_is_refused_before_anything_runs(visit, capsys):
    for out in (visit, visit / "none" / "x.tar.gz"):
        with pytest.raises(SystemExit):
            visited(visit, "--out", str(out))
        assert "name another file with --out" in capsys.readouterr().err
    assert not (visit / "visit.jsonl").exists()

"""Subnets are compiled and checked through the command."""

import errno
import json
import os

import pytest

from ofa_tvm import compile as compile_command
from ofa_tvm.compiler.cpu.assembler import compile_program
from ofa_tvm.spaces import SPACES
from ofa_tvm.supernet.checkpoint import save_supernet
from ofa_tvm.supernet.facts import SupernetFacts
from ofa_tvm.supernet.model import Supernet

STAGES = ["plan", "kernels", "link", "load", "check"]


@pytest.fixture(autouse=True)
def registered(tiny_space, monkeypatch):
    """The tiny space by name."""
    monkeypatch.setitem(SPACES, tiny_space.name, tiny_space)


@pytest.fixture
def run(tmp_path):
    """Run the command with a tuning log of its own."""
    return lambda *options: compile_command.main(["--logs", str(tmp_path / "logs"), *options])


def test_random_subnets(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path / "cache"))
    options = ["--space", "tiny", "--resolution", "12", "--random", "2", "--seed", "3", "--out", str(tmp_path / "out")]
    assert run(*options, "--json") == 0
    payload = json.loads(capsys.readouterr().out)
    assert payload["schema_version"] == 1
    assert (payload["space"], payload["weights"], len(payload["subnets"])) == ("tiny", "random", 2)
    assert payload["subnets"][0]["compiled_kernels"] > 5
    assert run(*options, "--json") == 0
    assert [subnet["compiled_kernels"] for subnet in json.loads(capsys.readouterr().out)["subnets"]] == [0, 0]
    for subnet in payload["subnets"]:
        assert subnet["subnet"].startswith("r12.")
        assert list(subnet["seconds"]) == [*STAGES, "export", "total"]
        total_s = subnet["seconds"].pop("total")
        assert total_s == pytest.approx(sum(subnet["seconds"].values()))
        assert subnet["relative_error"] < 1e-4
        assert (subnet["trials"], subnet["tuned_kernels"]) == (0, 0)
        assert subnet["default_kernels"] > 5
        assert (tmp_path / "out" / f"{subnet['subnet']}.so").is_file()


def test_subnet_of_a_supernet(run, tiny_space, tiny_dataset, tmp_path, capsys):
    facts = SupernetFacts(tiny_space.name, "tiny", tiny_dataset.class_names, tiny_dataset.preprocess)
    path = tmp_path / "supernet.safetensors"
    save_supernet(path, Supernet(tiny_space), facts)
    assert run("--supernet", str(path), "--subnet", "smallest") == 0
    text = capsys.readouterr().out
    assert tiny_space.smallest.key in text
    assert "no tuning trials" in text
    written = tmp_path / "one.txt"
    written.write_text(str(tiny_space.to_ofa(tiny_space.largest)))
    assert run("--supernet", str(path), "--arch", str(written)) == 0
    assert tiny_space.largest.key in capsys.readouterr().out
    assert run("--supernet", str(path), "--space", "mbv3") == 2
    assert "is of space tiny" in capsys.readouterr().err


def test_bad_input_ends_with_2(run, capsys):
    assert run("--space", "tiny", "--subnet", "r12") == 2
    assert run("--space", "tiny", "--resolution", "13") == 2
    assert run("--space", "vast") == 2
    assert "unknown space 'vast'" in capsys.readouterr().err


def test_wrong_code_ends_with_1_and_writes_nothing(run, tmp_path, monkeypatch, capsys):
    from ofa_tvm.bundle import library as compilation

    def wrong(plan, weights, *rest):
        return compile_program(plan, {name: array * 2 for name, array in weights.items()}, *rest)

    monkeypatch.setattr(compilation, "compile_program", wrong)
    assert run("--space", "tiny", "--subnet", "smallest", "--out", str(tmp_path / "out")) == 1
    assert "differs from ort" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_ends_with_1_and_says_what_to_mend(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path / "empty"))

    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert run("--space", "tiny", "--subnet", "smallest") == 1
    said = capsys.readouterr().err
    assert f"error: {tmp_path / 'empty' / 'compiled'}" in said
    assert ".o: No space left on device\n  make room there" in said


def test_help_names_the_verb(capsys):
    assert compile_command.main(["--help"]) == 0
    assert "python -m ofa_tvm.compile [OPTIONS]" in capsys.readouterr().out

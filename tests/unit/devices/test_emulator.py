"""Setting up the emulator, with its two long steps made up; and how commands treat emulated times."""

from __future__ import annotations

import shutil

import pytest

import ofa_tvm.tune as tune_command
from ofa_tvm.devices.emulation import emulator
from ofa_tvm.devices.emulation.device import EmulatedDevice
from ofa_tvm.hardware.target_files import load_target
from ofa_tvm.support.errors import OfaTvmError, UserError


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """An empty cache, and the steps that were done."""
    done = []

    def unpack_root(made):
        done.append("root")
        (made / "usr" / "bin").mkdir(parents=True)
        (made / "usr" / "bin" / "python3").symlink_to("python3.99")

    def unpack_site(made, python):
        done.append(f"site {python}")
        made.mkdir()

    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))
    monkeypatch.setattr(emulator, "missing_tools", list)
    monkeypatch.setattr(emulator, "_unpack_root", unpack_root)
    monkeypatch.setattr(emulator, "_unpack_site", unpack_site)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    return done


def test_it_is_installed_once(steps):
    assert not emulator.is_installed()
    emulator.install_emulator()
    emulator.install_emulator()
    assert steps == ["root", "site 3.99"]
    assert emulator.is_installed()
    emulator.require_emulator()
    names = {path.name for path in emulator.emulator_folder().iterdir() if not path.name.startswith(".")}
    assert names == {"root", "site", "bin", "versions.json"}


def test_a_step_that_was_done_is_not_done_again(steps, monkeypatch):
    unpack_site = emulator._unpack_site

    def fail(made, python):
        made.mkdir()
        raise OfaTvmError("the network is down")

    monkeypatch.setattr(emulator, "_unpack_site", fail)
    with pytest.raises(OfaTvmError, match="network"):
        emulator.install_emulator()
    assert not (emulator.emulator_folder() / "site").exists()
    monkeypatch.setattr(emulator, "_unpack_site", unpack_site)
    emulator.install_emulator()
    assert steps == ["root", "site 3.99"]


def test_other_versions_of_tvm_need_another_site(steps, monkeypatch):
    emulator.install_emulator()
    monkeypatch.setattr(emulator, "package_version", lambda name: "9.9")
    with pytest.raises(UserError, match="is not installed"):
        emulator.require_emulator()
    emulator.install_emulator()
    assert steps == ["root", "site 3.99", "site 3.99"]


def test_missing_tools_are_named(steps, monkeypatch):
    monkeypatch.setattr(emulator, "missing_tools", lambda: ["mmdebstrap", "pip"])
    with pytest.raises(UserError, match="mmdebstrap, pip not found\n  apt install"):
        emulator.install_emulator()
    assert not steps


def test_tools_that_are_looked_for(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert set(emulator.NEEDED) <= set(emulator.missing_tools())


def test_a_step_that_fails_says_why():
    with pytest.raises(OfaTvmError, match=r"a shell failed: no space\n  again: python -m ofa_tvm\.doctor"):
        emulator._run("a shell", ["sh", "-c", "echo no space >&2; exit 3"])


def test_an_emulated_device_needs_the_emulator(tmp_path, monkeypatch):
    monkeypatch.setenv("OFA_TVM_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="--install-emulator"):
        EmulatedDevice(load_target("arm", device="emulated"))


def test_tune_refuses_emulated_times(tmp_path, capsys):
    assert tune_command.main(["--target", "arm", "--device", "emulated", "--logs", str(tmp_path), "--trials", "1"]) == 2
    assert "times under emulation say nothing" in capsys.readouterr().err

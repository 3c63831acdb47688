"""Versions of TVM that crash are refused before anything imports them."""

from importlib.metadata import PackageNotFoundError

import pytest

from ofa_tvm.compiler.tvm_api import versions as guard
from ofa_tvm.support.errors import UserError

PINNED = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.14.post1"}


def test_the_pinned_versions_are_accepted_and_each_is_asked_for(monkeypatch):
    asked = []

    def version(name):
        asked.append(name)
        return PINNED[name]

    monkeypatch.setattr(guard, "version", version)
    guard.check_versions()
    assert set(asked) == set(PINNED)


def test_crashing_ffi_names_the_fix(monkeypatch):
    versions = {"apache-tvm": "0.27.0.post1", "apache-tvm-ffi": "0.1.15.post2"}
    monkeypatch.setattr(guard, "version", versions.__getitem__)
    with pytest.raises(UserError, match=r"pip install apache-tvm-ffi==0\.1\.14\.post1"):
        guard.check_versions()


def test_missing_tvm_names_the_fix(monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(guard, "version", missing)
    with pytest.raises(UserError, match="pip install apache-tvm=="):
        guard.check_versions()

"""Native chatter is kept off the terminal; everything else comes through."""

from __future__ import annotations

import os

import pytest

from ofa_tvm.compiler.tvm_api.quiet import STDERR, without_chatter

SAID = b"[19:25:17] utils.h:348: Warning: Trace replay failed with ScheduleError\nfatal: no space left\n"


def test_only_known_chatter_is_dropped(capfd):
    with without_chatter():
        os.write(STDERR, SAID)
    os.write(STDERR, b"after\n")
    assert capfd.readouterr().err == "fatal: no space left\nafter\n"


def test_what_was_said_before_an_error_is_shown(capfd):
    with pytest.raises(KeyboardInterrupt), without_chatter():
        os.write(STDERR, SAID)
        raise KeyboardInterrupt
    assert "no space left" in capfd.readouterr().err

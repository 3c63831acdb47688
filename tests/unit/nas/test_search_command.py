"""The command line that a result keeps searches the same again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from ofa_tvm.nas.opened_accuracy import Evaluation
from ofa_tvm.nas.session import SearchRequest, search_command
from ofa_tvm.nas.settings import SearchSettings
from ofa_tvm.support.shipped import shipped_supernet
from ofa_tvm.tuner.tuned_space import Target

X86 = Target.named("x86", threads=1, batch=1)


@pytest.mark.parametrize(
    ("request_", "options"),
    [
        (SearchRequest(Path("net"), [X86], Path("out")), {"--supernet": ["net"], "--out": ["out"], "--seed": ["0"]}),
        (SearchRequest(shipped_supernet(), [X86], Path("out")), {"--supernet": ["mbv3-cifar"]}),
        (SearchRequest(Path("net"), [X86], Path("out"), budgets_ms=[0.1, 2]), {"--max-latency-ms": ["0.1", "2"]}),
        (
            SearchRequest(
                Path("net"),
                [X86],
                Path("out"),
                settings=SearchSettings(limits={"size": 1.5}, objectives=("energy",), percentile=99, busy_cores=1),
            ),
            {"--max-size-mb": ["1.5"], "--objective": ["energy"], "--percentile": ["99"], "--load": ["1"]},
        ),
        (
            SearchRequest(Path("net"), [X86], Path("out"), evaluation=Evaluation("imagefolder:my data"), samples=33),
            {"--data": ["imagefolder:my data"], "--samples": ["33"]},
        ),
        (
            SearchRequest(Path("net"), [X86, Target.named("x86", 1, 1, dtype="int8")], Path("out"), merges=True),
            {"--target": ["x86"], "--dtype": ["auto"]},
        ),
        (SearchRequest(Path("net"), [X86, Target.named("x86-2t")], Path("out")), {"--target": ["x86", "x86-2t"]}),
    ],
)
def test_options_are_those_of_the_request(request_, options):
    words = shlex.split(search_command(request_))
    assert words[:3] == ["python", "-m", "ofa_tvm.search"]
    pairs = list(zip(words[3::2], words[4::2], strict=True))
    given = {name: [value for key, value in pairs if key == name] for name in options}
    assert given == options

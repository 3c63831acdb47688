"""Quality against trials as a figure: ``python benchmarks/plot_tuning.py`` draws the newest results of ``tuning``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from store import RESULTS, newest

from ofa_tvm.reporting.axis import Axis
from ofa_tvm.support.files import read_json, write_atomic

WIDTH, HEIGHT = 860, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 360, 16, 52
MAX_TRIALS, SLOWEST = 64, 2.6
CPU = "sapphirerapids"
METASCHEDULE = (
    ("AVX2", "seed2", "znver3", "#8d1b3d"),
    ("AVX-512, AMD", "seed2", "znver4", "#c1432e"),
    ("AVX-512, Intel", "seed3", CPU, "#e9768a"),
)
OURS = (
    ("templates alone (224 px)", "x86-mbv3-224-no-transfer", "#7a7f87"),
    ("+ another CPU's winners (224 px)", "x86-mbv3-224", "#1b6ca8"),
    ("+ another size's winners (192 px)", "x86-mbv3-192", "#2a9d8f"),
    ("+ other sizes' winners (160 px)", "x86-mbv3-160", "#74b816"),
    ("two threads, + one thread's winners (224 px)", "x86-2t-mbv3-224", "#e9a13b"),
    ("mbv3-cifar, + another CPU's winners (32 px)", "x86-mbv3-cifar-32", "#8e6bbf"),
)


@dataclass(frozen=True)
class Series:
    """A line of (trials a kernel, time over that of the best known tiles)."""

    name: str
    colour: str
    points: tuple[tuple[int, float], ...]


def series() -> list[Series]:
    """All lines; ours end at 1 by definition, MetaSchedule's are over our winners."""
    found = []
    for name, draw, cpu, colour in METASCHEDULE:
        plain = read_json(newest(f"tuning-metaschedule-x86-mbv3-224-{draw}", cpu), "result")
        points = tuple((int(count), value) for count, value in plain["time_over_ours_after"].items())
        found.append(Series(f"MetaSchedule, {name} ({len(plain['kernels'])} kernels)", colour, points))
    for name, part, colour in OURS:
        quality = read_json(newest(f"tuning-curve-{part}", CPU), "result")["quality_after"]
        found.append(Series(name, colour, tuple((int(count), 1 / value) for count, value in quality.items())))
    return found


def svg(lines: Sequence[Series]) -> str:
    """The figure; trials on a logarithmic axis."""
    x = Axis(0, math.log2(MAX_TRIALS), LEFT, WIDTH - RIGHT)
    y = Axis(0.9, SLOWEST, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" style="font: 12px sans-serif">',
        "<title>Quality of kernels against trials</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for place, label in y.ticks:
        parts.append(f'<path d="M{LEFT} {place}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{place + 4}" text-anchor="end">{label}</text>')
    for power in range(int(math.log2(MAX_TRIALS)) + 1):
        parts.append(f'<text x="{x(power)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{2**power}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 12}" text-anchor="middle">trials a kernel</text>')
    parts.append(
        f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
        "time over that of our winners</text>"
    )
    for number, line in enumerate(lines):
        places = [(x(math.log2(count)), y(value)) for count, value in line.points]
        path = "L".join(f"{right} {up}" for right, up in places)
        parts.append(f'<path d="M{path}" fill="none" stroke="{line.colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{right}" cy="{up}" r="3" fill="{line.colour}"/>' for right, up in places]
        height = TOP + 14 + 20 * number
        parts.append(f'<rect x="{WIDTH - RIGHT + 14}" y="{height - 9}" width="10" height="10" fill="{line.colour}"/>')
        parts.append(f'<text x="{WIDTH - RIGHT + 30}" y="{height}">{line.name}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    path = RESULTS / "tuning-quality.svg"
    write_atomic(path, svg(series()))
    print(path)

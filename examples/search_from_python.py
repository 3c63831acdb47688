"""From Python: what random subnets would take and give, the best of them as a table and a picture, then a search.

``python examples/search_from_python.py --target x86 --budget 0.1`` predicts 5,000 subnets of the supernet that ships,
then searches one within 0.1 ms, measured, and writes it as a bundle. Without ``--budget`` nothing is measured.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ofa_tvm

WIDTH, HEIGHT, MARGIN = 640, 400, 50
Columns = dict[str, NDArray[Any]]


def front(columns: Columns) -> NDArray[np.int64]:
    """Rows that no other one beats in both latency and accuracy, the fastest first."""
    order: NDArray[np.int64] = np.lexsort((-columns["top1"], columns["latency_ms"]))
    top1: NDArray[np.float64] = columns["top1"][order]
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(top1)[:-1]])
    return order[top1 > best_before]


def picture(columns: Columns, best: NDArray[np.int64]) -> str:
    """The subnets as an SVG: latency to the right, accuracy upwards, the front in red."""

    def places(values: NDArray[Any], start: int, end: int) -> NDArray[Any]:
        shares: NDArray[Any] = (values - values.min()) / np.ptp(values)
        return start + shares * (end - start)

    x = places(np.log(columns["latency_ms"]), MARGIN, WIDTH - MARGIN)
    y = places(columns["top1"], HEIGHT - MARGIN, MARGIN)
    dots = [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="1.5" fill="#bbb"/>' for a, b in zip(x, y, strict=True)]
    line = " ".join(f"{x[row]:.1f},{y[row]:.1f}" for row in best)
    low, high = columns["latency_ms"].min(), columns["latency_ms"].max()
    label = f"{low:.3g} to {high:.3g} ms (log), {columns['top1'].min():.1%} to {columns['top1'].max():.1%}"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif">',
            *dots,
            f'<polyline points="{line}" fill="none" stroke="#c33" stroke-width="2"/>',
            f'<text x="{MARGIN}" y="{HEIGHT - 15}" font-size="13">{label}</text>',
            "</svg>",
        ]
    )


def main() -> None:
    """Predict, draw; then search and deploy, if there is a budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="x86")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--budget", type=float, help="milliseconds")
    parser.add_argument("--out", type=Path, default=Path("runs/from-python"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)

    supernet, target = ofa_tvm.load_supernet(), ofa_tvm.load_target(options.target)
    columns = ofa_tvm.predict(ofa_tvm.sample(supernet.space, options.count), target, supernet)
    best = front(columns)
    print("predicted ms  top-1   MMACs  subnet")
    for row in best:
        print(
            f"{columns['latency_ms'][row]:12.4f}  {columns['top1'][row]:.2%}  {columns['macs'][row] / 1e6:5.1f}  "
            f"{columns['key'][row]}"
        )
    (options.out / "front.svg").write_text(picture(columns, best))
    print(f"wrote {options.out / 'front.svg'}")

    if options.budget is not None:
        finished = ofa_tvm.search(supernet, target, options.budget, out=options.out / "search")
        bundle = ofa_tvm.deploy(finished, 1, options.out / "bundle")
        print(f"{bundle.manifest.subnet}: {bundle.manifest.latency.measured_ms:.4f} ms, wrote {bundle.folder}")


if __name__ == "__main__":
    main()

"""The report page in a browser: widths, themes, sorting, hovering, pinning, downloads, keys and paper."""

from __future__ import annotations

import csv
import html
import io
import json
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from search_results import SUBNETS, bench, full_pick, full_result

from ofa_tvm import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
WIDTHS = (360, 768, 1280)
TRIES = 3
PAPER = 700
"""Pixels of a printed page's width."""
THEMES = {"light": 1, "dark": 0}
CATCH = """<script>window.probeErrors = [];
addEventListener("error", (event) => window.probeErrors.push(event.message));
addEventListener("unhandledrejection", (event) => window.probeErrors.push(String(event.reason)));
console.error = console.warn = (...words) => window.probeErrors.push(words.join(" "));</script>"""
HOST = """<!doctype html><body>{frames}<pre id="found"></pre><script>
const frames = [...document.querySelectorAll("iframe")];
const look = setInterval(() => {{
  const found = frames.map((frame) => frame.contentWindow.probeDone);
  if (!found.every(Boolean)) return;
  clearInterval(look);
  document.getElementById("found").textContent = JSON.stringify(found);
}}, 50);
</script></body>"""

pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium"),
    pytest.mark.seconds(5),
]


def page(folder: Path) -> str:
    picks = [full_pick(number) for number in (1, 2, 3)]
    folder.mkdir()
    (folder / "result.json").write_text(json.dumps(full_result(front=60, picks=picks)))
    (folder / "bench.json").write_text(json.dumps(bench()))
    assert report.main(["--from", str(folder), "--bench", str(folder / "bench.json")]) == 0
    return (folder / "report.html").read_text()


def browse(folder: Path, theme: str) -> list[dict[str, Any]]:
    """What the probe found at each width."""
    probe = f"<script>{(Path(__file__).parent / 'probe.js').read_text()}</script></body>"
    probed = page(folder / theme).replace("<head>", f"<head>{CATCH}").replace("</body>", probe)
    frames = "".join(
        f'<iframe width="{width}" height="800" style="border:0" srcdoc="{html.escape(probed)}"></iframe>'
        for width in WIDTHS
    )
    host = folder / f"{theme}.html"
    host.write_text(HOST.format(frames=frames))
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += [f"--blink-settings=preferredColorScheme={THEMES[theme]}", "--hide-scrollbars"]
    command += ["--window-size=1400,900", "--virtual-time-budget=20000", "--dump-dom", host.as_uri()]
    dumped = _output(command, folder)
    told = re.search(r'<pre id="found">(.+?)</pre>', dumped, re.DOTALL)
    assert told, "the probe did not end"
    found: list[dict[str, Any]] = json.loads(html.unescape(told.group(1)))
    return found


def _output(command: list[str], folder: Path) -> str:
    """What a browser prints; one that hangs, as it may on a busy machine, is started again with another profile."""
    for number in range(TRIES):
        fresh = [*command[:-1], f"--user-data-dir={folder / f'profile-{number}'}", command[-1]]
        with suppress(subprocess.TimeoutExpired):
            return subprocess.run(fresh, capture_output=True, text=True, check=True, timeout=60).stdout
    raise TimeoutError("the browser hangs")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("browser")
    return {theme: browse(folder, theme) for theme in THEMES}


@pytest.fixture(params=WIDTHS)
def width(request):
    return request.param


@pytest.fixture(params=THEMES)
def seen(request, width, found):
    return found[request.param][WIDTHS.index(width)]


def test_no_errors(seen):
    assert seen["errors"] == []


def test_nothing_is_cut_off_at_the_edge(width, seen):
    assert seen["width"] == width
    for state in ("folded", "unfolded", *(["printed"] if width >= PAPER else [])):
        assert (state, seen[state]["body"], seen[state]["wide"]) == (state, 0, [])


def test_labels_of_plots_can_be_read(seen):
    assert seen["smallest"] >= 11


def test_text_stands_out(seen):
    assert min(seen["contrasts"]) >= 4.5


def test_tables_are_sorted_by_values(seen):
    values = ["12340000", "24680000", "37020000"]
    assert seen["before"] == values
    assert seen["ascending"] == ["ascending", *values]
    assert seen["descending"] == ["descending", *reversed(values)]
    assert seen["sortByKeyboard"]


def test_downloads_hold_what_the_page_shows(seen):
    assert sorted(seen["downloads"]) == ["consumer.csv", "picks.csv", "report.json"]
    rows = list(csv.DictReader(io.StringIO(seen["csv"])))
    assert [row["subnet"] for row in rows] == [SUBNETS[2], SUBNETS[1], SUBNETS[0]]
    assert float(rows[0]["predicted (ms)"]) == pytest.approx(1.35)
    assert [made["subnet"] for made in seen["json"]["searches"][0]["picks"]] == list(SUBNETS)
    (first, *_) = csv.DictReader(io.StringIO(seen["consumer"]))
    energies = [f"energy{bound} (Wh per 1000000 images)" for bound in ("", ", at least", ", at most")]
    told = seen["json"]["emissions"]["consumer"]["networks"][0]
    assert [float(first[name]) for name in energies] == pytest.approx(
        [told["energy"][name] for name in ("value", "low", "high")], rel=1e-4
    )
    emissions = float(first["SCI, at most (g CO2e per 1000000 images)"])
    assert emissions == pytest.approx(told["emissions"]["high"], rel=1e-4)


def test_hovering_names_a_subnet_and_a_click_keeps_it(seen):
    assert any(subnet in seen["tip"] for subnet in SUBNETS)
    assert seen["tipAfter"]
    assert "stage 1" in seen["pinned"]
    assert re.search(r"ofa_tvm\.deploy .* --target x86 .* --subnet r\d+\.", seen["pinned"])
    assert any(subnet in seen["pinned"] for subnet in SUBNETS)
    assert (seen["pressed"], seen["pressedThen"], seen["unpinned"]) == (1, 1, True)


def test_keys_do_what_the_pointer_does(seen):
    assert seen["reachedByTab"] == 1
    assert seen["byKeys"]


def test_the_theme_follows_the_system_and_can_be_changed(found):
    light, dark = (found[theme][0] for theme in THEMES)
    assert light["paper"] != dark["paper"]
    assert light["otherPaper"] == dark["paper"]
    assert dark["otherPaper"] == light["paper"]


def test_paper_shows_what_is_folded_away(seen):
    assert (seen["printedFolded"], seen["foldedAgain"]) == (0, 0)
    assert seen["printed"]["nav"] == "none"

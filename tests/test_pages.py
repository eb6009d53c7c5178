"""The pages in a real browser: pictures load, curves are visible, the console is quiet."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, run_test, run_train, write
from PIL import Image

from util.compare import main as compare

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

PROBE = """<script>
window.onerror = m => document.title = 'ERROR ' + m;
window.addEventListener('load', () => setTimeout(() => {
  const images = [...document.images].filter(i => i.complete && i.naturalWidth > 0).length;
  const curves = [...document.querySelectorAll('polyline')].filter(p => p.getBBox().width > 20).length;
  document.body.setAttribute('data-probe', images + ' of ' + document.images.length + ', curves ' + curves);
}, 300));
</script>"""


def browse(page: Path, tmp_path: Path, *more: str, at: str = "") -> subprocess.CompletedProcess:
    return subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1400,3000",
            "--enable-logging=stderr",
            *more,
            page.resolve().as_uri() + at,
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )


def probe(page: Path, tmp_path: Path) -> tuple[int, int, int]:
    """(pictures that loaded, pictures there are, curves seen) of a page with lazy loading off."""
    copy = page.with_name("probed.html")
    copy.write_text(page.read_text().replace('loading="lazy"', "").replace("</body>", f"{PROBE}</body>"))
    done = browse(copy, tmp_path, "--dump-dom", "--virtual-time-budget=5000")
    assert "ERROR" not in re.search(r"<title>.*?</title>", done.stdout, re.S)[0]
    assert "CONSOLE" not in done.stderr
    found = re.search(r'data-probe="(\d+) of (\d+), curves (\d+)"', done.stdout)
    return tuple(map(int, found.groups()))


@needs_chromium
def test_the_pages_of_a_run(strips, tmp_path):
    run_train(
        "--model", "pix2pix", "--dataroot", strips, "--n_epochs", "2", "--print_freq", "1", "--name", "<b>run #1 & ?"
    )
    run_test("--dataroot", f"{strips}/test", "--name", "<b>run #1 & ?")
    web = Path("checkpoints/<b>run #1 & ?/web/index.html")
    assert probe(web, tmp_path) == (6, 6, 5)  # three visuals of two epochs; four losses, the rate
    assert probe(Path("results/<b>run #1 & ?/test_latest/index.html"), tmp_path) == (4, 4, 0)
    browse(web, tmp_path, f"--screenshot={tmp_path / 'shot.png'}")
    shot = np.asarray(Image.open(tmp_path / "shot.png").convert("RGB")).astype(int)
    blue = abs(shot - (22, 103, 183)).sum(2) < 60
    assert blue.sum() > 200  # the curves are drawn
    assert shot[:1200].std() > 20  # and so are pictures


@needs_chromium
@pytest.mark.parametrize(("order", "metric"), (("best", "l1"), ("worst", "l1"), ("name", "l1"), ("best", "ssim"),
                                               ("worst", "ssim")))
def test_a_scored_page_is_sorted_on_request(strips, tmp_path, order, metric):
    for i in range(2, 12):
        write(Path(strips) / "test" / f"{i}.png", picture(128, 64, seed=i))
    run_train("--model", "pix2pix", "--dataroot", strips)
    run_test("--model", "pix2pix", "--dataroot", strips, "--metrics", metric)
    folder = Path("results/experiment_name/test_latest")
    scores = {int(name): row[f"fake_B/{metric}"]
              for name, row in json.loads((folder / "metrics.json").read_text())["images"].items()}
    better = 1 if metric == "l1" else -1
    sign = {"best": better, "worst": -better, "name": 0}[order]
    wanted = sorted(sorted(scores), key=lambda name: sign * scores[name])
    page = folder / "index.html"
    shown = browse(page, tmp_path, "--dump-dom", "--virtual-time-budget=2000", at=f"#{order}").stdout
    assert list(map(int, re.findall(r"<h2>(\d+) fake_B/", shown))) == wanted
    assert probe(page, tmp_path)[:2] == (36, 36)


@needs_chromium
def test_the_page_of_a_comparison(strips, tmp_path):
    for name in ("one", "two"):
        run_train("--model", "pix2pix", "--dataroot", strips, "--name", name, "--n_epochs", 2, "--print_freq", 1)
        run_test("--model", "pix2pix", "--dataroot", strips, "--name", name)
    compare(["one", "two"])
    assert probe(Path("comparison/index.html"), tmp_path) == (8, 8, 10)  # two images, with two translations each

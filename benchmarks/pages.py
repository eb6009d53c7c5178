"""A page of many results in Chromium: seconds until pictures are seen, and memory: python benchmarks/pages.py [COUNT].

It needs the extra `test` and Chromium. The pictures are links to a few files, so that the disk has room for them.
"""

import os
import shutil
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from playwright.sync_api import sync_playwright
from skimage import data

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from util.html import HTML, Column, Row, Score, picture_table
from util.images import save_image

SIZE, FILES = 256, 12
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def write_page(folder: Path, count: int) -> float:
    """Write a page as test.py does; returns the seconds that took."""
    page = HTML(folder, "benchmark")
    photograph, draw = data.astronaut(), np.random.default_rng(0)
    for i in range(FILES):
        y, x = draw.integers(0, 512 - SIZE, 2)
        save_image(photograph[y:y + SIZE, x:x + SIZE], page.img_dir / f"{i}.png")
    labels = ("real_A", "fake_B", "real_B")
    rows = []
    for i in range(count):
        for label in labels:
            os.link(page.img_dir / f"{draw.integers(FILES)}.png", page.img_dir / f"{i}_{label}.png")
        rows.append(Row(f"image {i}", {label: (f"{i}_{label}.png",) * 2 for label in labels}, {"l1": draw.random()}))
    start = time.perf_counter()
    page.add_tools(SIZE, rows=True)
    page.add(picture_table([Column(label, label) for label in labels], [Score("l1", "l1")], rows))
    page.save()
    return time.perf_counter() - start


def memory() -> float:
    """Proportional set size of the processes below this one that draw pages, in MiB."""
    parents, renderers = {}, {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(process.name)] = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            if "--type=renderer" in (process / "cmdline").read_text():
                rollup = (process / "smaps_rollup").read_text()
                renderers[int(process.name)] = int(rollup.split("Pss:")[1].split()[0]) / 1024
        except OSError:  # it has ended
            continue
    return sum(size for pid, size in renderers.items() if os.getpid() in ancestors(pid, parents))


def ancestors(pid: int, parents: dict[int, int]) -> list[int]:
    """The processes that a process descends from."""
    found = []
    while pid := parents.get(pid, 0):
        found.append(pid)
    return found


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    with TemporaryDirectory() as folder, sync_playwright() as tools:
        took = write_page(Path(folder), count)
        size = (Path(folder) / "index.html").stat().st_size / 2 ** 20
        print(f"{count} results: written in {took:.2f} s, {size:.2f} MiB")
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1400, "height": 1000})
        start = time.perf_counter()
        tab.goto((Path(folder) / "index.html").as_uri(), wait_until="commit")
        tab.wait_for_function("document.images[5]?.complete && document.images[5].naturalWidth > 0")
        print(f"first pictures after {time.perf_counter() - start:.2f} s")
        tab.wait_for_load_state()
        print(f"{memory():.0f} MiB once loaded")
        start = time.perf_counter()
        tab.click("th[data-better=low] button")
        tab.wait_for_function("document.querySelector('th[data-sorted]')")
        tab.evaluate("new Promise(requestAnimationFrame)")
        print(f"sorted in {time.perf_counter() - start:.2f} s")
        for i in range(40):
            tab.evaluate(f"scrollTo(0, document.body.scrollHeight * {i} / 40)")
            tab.wait_for_timeout(50)
        print(f"{memory():.0f} MiB after scrolling through it")
        browser.close()


if __name__ == "__main__":
    main()

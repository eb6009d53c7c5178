"""The app's first answer: seconds from the upload of a 256x256 image to its translation in Chromium; resnet_9blocks.

    python benchmarks/app.py              # extras: app, test
"""

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import torch
from playwright.sync_api import sync_playwright
from skimage import data

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from image_translation.app import App, parse, serve
from networks import define_G
from util.images import save_image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SHOWN = "[...document.images].filter(i => i.src.includes('/file=') && i.naturalWidth).length >= 2"


def main() -> None:
    """Print the seconds of the first three answers."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as tools:
        os.chdir(folder)
        Path("checkpoints/bench").mkdir(parents=True)
        torch.save(define_G(3, 3, 64, "resnet_9blocks", "instance").state_dict(),
                   "checkpoints/bench/latest_net_G.pth")
        for i in range(3):
            save_image(data.astronaut()[i:i + 256, :256], f"{i}.png")
        address = serve(App(parse(["bench", "--port", "0"])))
        browser = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for i in range(3):
            tab = browser.new_page()
            tab.goto(address)
            tab.wait_for_selector("input[type=file]", state="attached")
            tab.wait_for_timeout(1000)
            start = time.perf_counter()
            tab.locator("input[type=file]").first.set_input_files(f"{i}.png")
            tab.wait_for_function(SHOWN)
            print(f"answer {i + 1}: {time.perf_counter() - start:.2f} s after the upload", flush=True)
        browser.close()
        os.chdir("/")
    os._exit(0)  # the server's threads


if __name__ == "__main__":
    main()

"""What an installed wheel is: one package, complete, usable from any folder: python .ci/installed.py SITE.

Run it in an empty folder with SITE, where the wheel was unpacked, on PYTHONPATH.
"""

import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

from image_translation.house import PACKAGES, enter

SITE = Path(sys.argv[1]).resolve()
TINY = ("--model pix2pix --dataroot demo --name tiny --netG resnet_2blocks --ngf 4 --ndf 4 --preprocess crop "
        "--crop_size 64 --n_epochs 1 --n_epochs_decay 0 --max_dataset_size 4 --display_id 0 --device cpu")


def command(line: str) -> None:
    """Run a command of the package, which must succeed."""
    print(f"+ image-translation {line}", flush=True)
    subprocess.run([sys.executable, "-m", "image_translation", *line.split()], check=True)


top = {path.name for path in SITE.iterdir()} - {"bin", "__pycache__"}
if {name for name in top if not name.endswith(".dist-info")} != {"image_translation"}:
    sys.exit(f"the wheel puts {', '.join(sorted(top))} into site-packages")
enter()
for package in map(importlib.import_module, PACKAGES):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(found.name)
        if not Path(str(module.__file__)).resolve().is_relative_to(SITE):
            sys.exit(f"{found.name} comes from {module.__file__}, not from the wheel")
command(f"train {TINY}")
command("test --name tiny --dataroot demo --device cpu")
command("translate tiny datasets/demo/paired/A/test --out translated --device cpu")
command("export tiny --format torchscript")
command("check datasets/demo/unpaired")
Path("foreign").mkdir()
Path("foreign/util.py").write_text("")
code = "import util; from image_translation import load; load('tiny')"
environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["foreign", str(SITE)])}
done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
if "another 'util' is imported" not in done.stderr.splitlines()[-1]:
    sys.exit(f"beside a foreign util: {done.stderr}")
print(f"the wheel has all of {', '.join(PACKAGES)}, and only image_translation at the top")

"""Several runs on one page."""

import json
import re
from pathlib import Path

import pytest
from conftest import picture, run_test, run_train, write

from util.compare import main
from util.errors import UsageError


def test_runs_are_compared(strips, capsys):
    for name, weight in (("one", 100), ("two", 10)):
        run_train("--model", "pix2pix", "--dataroot", strips, "--name", name, "--lambda_L1", weight)
    assert main(["one", "two"]) == 0
    assert "run test.py for each run first" in capsys.readouterr().err
    for name in ("one", "two"):
        run_test("--model", "pix2pix", "--dataroot", strips, "--name", name, "--metrics", "l1")
    assert main(["one", "two", "--output", "both", "--images", "1"]) == 0
    assert "2 runs, 1 images side by side: both/index.html" in capsys.readouterr().out
    page = Path("both/index.html").read_text()
    assert "<th>--lambda_L1</th>" in page.replace("\n", "").replace("  ", "")
    assert "--netG" not in page
    assert "fake_B/l1" in page
    assert page.count("<figure class=\"chart") == 5  # four losses and the learning rate
    assert page.count("&quot;label&quot;: &quot;two&quot;") == 5
    for file in ("one/0_real_A.png", "one/0_fake_B.png", "two/0_fake_B.png"):
        assert f'src="images/{file}"' in page
        assert (Path("both/images") / file).exists()


def test_pictures_are_told_apart_whatever_they_are_called(strips):
    """Visuals without a domain in their names, and images whose names begin alike."""
    for name in ("one", "two"):
        run_train("--model", "pix2pix", "--dataroot", strips, "--name", name)
    for name in ("1", "1_2", "1_real_A"):
        write(Path("photos") / f"{name}.png", picture())
    for name in ("one", "two"):
        run_test("--dataroot", "photos", "--name", name)
    main(["one", "two"])
    shown = re.findall(r'<img[^>]*src="images/([^"]+)"', Path("comparison/index.html").read_text())
    assert shown == [f"{run}/{name}_{kind}.png" for name in ("1", "1_2", "1_real_A")
                     for run, kind in (("one", "real"), ("one", "fake"), ("two", "fake"))]


@pytest.mark.parametrize("file", ("metrics.json", "images.json"))
def test_a_damaged_file_is_one_line(strips, file):
    run_train("--model", "pix2pix", "--dataroot", strips)
    run_test("--model", "pix2pix", "--dataroot", strips, "--metrics", "l1")
    (Path("results/experiment_name/test_latest") / file).write_text('{"figures": [1')
    with pytest.raises(UsageError, match=f"test_latest/{file} is damaged .*test.py"):
        main(["experiment_name"])


def test_a_torn_log_and_a_name_that_leads_elsewhere(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--name", "one")
    with open("checkpoints/one/loss_log.jsonl", "a") as file:
        file.write('{"epoch": 1, "iters": 1, "losses": {"a": null}}\n{"epoch": 1, "iters": 1, "losses": [1]}\n')
    assert main(["one"]) == 0
    with pytest.raises(UsageError, match="--phase and --epoch 'test_../../../x' leads out"):
        main(["one", "--epoch", "../../../x"])


def test_an_unknown_run_is_named(strips):
    run_train("--model", "pix2pix", "--dataroot", strips, "--name", "one")
    with pytest.raises(UsageError, match="no recorded run called 'two' in ./checkpoints; there are: one"):
        main(["one", "two"])


@pytest.mark.parametrize("file", ["../../../../secret.png", "/etc/hostname", "a/../../../x.png"])
def test_a_list_of_pictures_leads_nowhere_else(strips, file):
    Path("secret.png").write_bytes(b"secret")
    run_train("--model", "pix2pix", "--dataroot", strips)
    run_test("--dataroot", f"{strips}/test")
    listed = Path("results/experiment_name/test_latest/images.json")
    listed.write_text(json.dumps({"0": {"fake": [file, file]}}))
    with pytest.raises(UsageError, match=r"leads out of"):
        main(["experiment_name"])
    assert not list(Path("comparison").rglob("*secret*"))

"""Folders for the Hub: written, read bit for bit, fetched from and uploaded to a server of its interface; never run."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import picture, run_test, run_train, write

from image_translation import load
from image_translation.export import main as export
from image_translation.hub import main as upload
from models.engine import hardware
from util.errors import UsageError

pytest.importorskip("safetensors")
hub = pytest.importorskip("huggingface_hub.constants")
COMMIT = "0123456789" * 4
IMAGE = picture(70, 50)


@pytest.fixture(autouse=True)
def in_float32(monkeypatch):
    """What is compared bit for bit."""
    monkeypatch.setattr(hardware, "pick_amp", lambda amp, device: "off")


@pytest.fixture
def folder(strips):
    """`model`: an exported run, with results and a licence."""
    run_train("--model", "pix2pix", "--dataroot", strips, "--norm", "batch", "--name", "r", "--lambda_L1", 70)
    run_test("--model", "pix2pix", "--dataroot", strips, "--name", "r", "--metrics", "l1,ssim,swd")
    assert export(["r", "--format", "hub", "--out", "model", "--licence", "cc-by-4.0"]) == 0
    return Path("model")


class Server(BaseHTTPRequestHandler):
    """As much of the Hub's interface as downloads and uploads of small files need; files in `self.server.files`."""

    protocol_version = "HTTP/1.1"

    def answer(self, content=b"", status=200, **headers):
        self.send_response(status)
        for name, value in {"Content-Length": len(content), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        self.server.asked.append(self.path)
        path, files = self.path.partition("?")[0], self.server.files
        if path.startswith("/api/models/user/name"):
            listed = [{"rfilename": name, "path": name, "type": "file", "size": len(files[name]), "oid": "0" * 40}
                      for name in files]
            self.answer(json.dumps(listed if "/tree/" in path else {
                "id": "user/name", "sha": COMMIT, "siblings": listed, "private": False, "tags": [],
                "downloads": 0}).encode(), Content_Type="application/json")
        elif "/resolve/" in path and (name := path.split("/resolve/")[1].split("/", 1)[1]) in files:
            self.answer(files[name], ETag=f'"{hashlib.sha256(files[name]).hexdigest()}"')
        else:
            self.answer(b'{"error": "Repository not found"}', 404, X_Error_Code="RepoNotFound")

    do_HEAD = do_GET

    def do_POST(self):
        self.server.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if "preupload" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for file in json.loads(body)["files"]]
            self.answer(json.dumps({"files": files}).encode())
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer(json.dumps({"commitUrl": f"{hub.ENDPOINT}/user/name/commit/{COMMIT}", "commitOid": COMMIT,
                                    "hookOutput": ""}).encode())
        else:
            self.answer(json.dumps({"url": f"{hub.ENDPOINT}/user/name", "id": "user/name"}).encode())

    def log_message(self, *what):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A Hub on this machine, empty, in the place of the real one."""
    running = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    running.files, running.asked = {}, []
    threading.Thread(target=running.serve_forever, daemon=True).start()
    at(monkeypatch, f"http://127.0.0.1:{running.server_port}", tmp_path)
    yield running
    running.shutdown()


def at(monkeypatch, address, tmp_path):
    """Let the library ask this address, without a cache or a token of this user."""
    monkeypatch.setattr(hub, "ENDPOINT", address)
    monkeypatch.setattr(hub, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "hf_test")


def test_a_folder_translates_bit_for_bit_as_its_run(folder):
    made, again = load("r", device="cpu"), load("model", device="cpu")
    assert (np.asarray(made(IMAGE)) == np.asarray(again(IMAGE))).all()
    assert made.opt.no_dropout == again.opt.no_dropout is False
    from safetensors.torch import load_file

    state = torch.load("checkpoints/r/latest_net_G.pth", weights_only=True)
    saved = load_file("model/model.safetensors")
    assert state.keys() == saved.keys() and all(torch.equal(state[key], saved[key]) for key in state)
    small, plain = load("model", size="trained", device="cpu"), load("r", size="trained", device="cpu")
    assert (np.asarray(small(IMAGE)) == np.asarray(plain(IMAGE))).all() and small(IMAGE).shape == (64, 64, 3)


def test_the_model_card(folder):
    card = (folder / "README.md").read_text()
    for text in ("license: cc-by-4.0", "pipeline_tag: image-to-image", "| --lambda_L1 | 70", "| --model | pix2pix |",
                 'picture = load("hub:USER/NAME")("photo.jpg")', "Data: strips.", "| fake_B/ssim | ", "n = 2 | ↑ |",
                 "| real_A | fake_B | real_B |"):
        assert text in card
    shown = {line.split("](")[1].split(")")[0] for line in card.split("!") if "](" in line}
    assert len(shown) == 6 and all((folder / name).is_file() for name in shown)


def test_results_of_other_weights_are_not_on_the_card(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips, "--name", "r", "--ema", 0.9)
    run_test("--model", "pix2pix", "--dataroot", strips, "--name", "r", "--metrics", "l1", "--ema")
    assert export(["r", "--format", "hub", "--out", "plain"]) == 0
    assert "fake_B/l1" not in Path("plain/README.md").read_text() and not Path("plain/images").exists()
    assert "test.py --epoch latest --metrics auto" in capsys.readouterr().err.replace("  ", " ")
    assert export(["r", "--format", "hub", "--out", "average", "--ema"]) == 0
    card = Path("average/README.md").read_text()
    assert "fake_B/l1" in card and "Checkpoint: latest, the moving average of its weights." in card


def test_a_cycle_is_exported_one_direction_at_a_time(domains):
    run_train("--model", "cycle_gan", "--dataroot", domains, "--netG", "resnet_1blocks", "--name", "c")
    assert export(["c", "--format", "hub", "--direction", "BtoA", "--half", "--out", "back"]) == 0
    made, again = load("c", direction="BtoA", device="cpu"), load("back", direction="BtoA", device="cpu")
    assert np.abs(np.asarray(made(IMAGE)).astype(int) - np.asarray(again(IMAGE))).max() <= 2  # float16
    with pytest.raises(ValueError, match="leave out the direction"):
        load("back", direction="AtoB", device="cpu")


def test_up_and_down(folder, server, capsys):
    assert upload(["model", "user/name", "--private"]) == 0
    assert 'load("hub:user/name")' in capsys.readouterr().out
    assert {"model.safetensors", "config.json", "README.md", "images/0_fake_B.png"} <= server.files.keys()
    assert b'load("hub:user/name")' in server.files["README.md"]
    server.files |= {"evil.py": b"raise SystemExit", "latest_net_G.pth": b"no", "train_opt.json": b"{}"}
    server.asked.clear()
    made = load("hub:user/name", device="cpu")
    assert (np.asarray(made(IMAGE)) == np.asarray(load("r", device="cpu")(IMAGE))).all()
    assert not [path for path in server.asked if "evil" in path or "net_G" in path or "train_opt" in path]
    load("hub:user/name@main", device="cpu")
    with pytest.raises(ValueError, match="hub:user/other: "):
        load("hub:user/other", device="cpu")


def test_without_a_network(folder, monkeypatch, tmp_path):
    at(monkeypatch, "http://127.0.0.1:9", tmp_path)
    with pytest.raises(ValueError, match="hub:user/name: the Hub can't be reached") as error:
        load("hub:user/name", device="cpu")
    assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="user/name: ") as error:
        upload(["model", "user/name"])
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="hub:no name!: "):
        load("hub:no name!", device="cpu")


@pytest.mark.parametrize(("change", "message"), (
    ({"auto_map": {"AutoModel": "code.py"}}, "it has 'auto_map'"),
    ({"options": {"plugin_dir": "."}}, "it has 'plugin_dir'"),
    ({"options": {"netG": "mine"}}, "--netG mine"),
    ({"options": {"netG": "--plugin_dir=."}}, "not known here"),
    ({"options": {"norm": "my_lab.norms:Norm"}}, "not known here"),
    ({"options": {"ngf": "4; import os"}}, "its 'ngf' is no int"),
    ({"options": {"netG": "resnet_900000000blocks"}}, "it says netG resnet_900000000blocks, and the weights unet_64"),
    ({"options": {"direction": "AtoB --plugin_dir ."}}, "Unknown value for --direction"),
    ({"options": {"ngf": 10 ** 9}}, "it says ngf 1000000000, and the weights 2"),
    ({"options": {"direction": "\x1b[31mred"}}, r"'\\x1b\[31mred'"),
    ({"options": None}, "is damaged"),
    ({"library_name": "diffusers"}, "another library")))
def test_a_config_that_asks_for_more_is_refused(folder, change, message):
    Path("evil.py").write_text("raise SystemExit('executed')")
    config = json.loads((folder / "config.json").read_text())
    options = change.get("options", {})
    config |= change | {"options": options if options is None else config["options"] | options}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message) as error:
        load("model", device="cpu")
    assert "\n" not in str(error.value)


def test_weights_that_are_damaged(folder):
    whole = (folder / "model.safetensors").read_bytes()
    for content in (whole[:100], b"", whole[:-9], b"\xff" * 400):
        (folder / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"model.safetensors can't be read|do not fit"):
            load("model", device="cpu")


def test_weights_are_fractions(folder):
    from safetensors.torch import load_file, save_file

    state = load_file("model/model.safetensors")
    name = next(name for name in state if name.endswith("weight"))
    save_file(state | {name: (state[name] * 100).int()}, "model/model.safetensors")
    with pytest.raises(ValueError, match=f"its {name} holds torch.int32"):
        load("model", device="cpu")


def test_what_can_not_be_exported_or_uploaded(folder, capsys):
    with pytest.raises(UsageError, match="model exists; name another --out, or --overwrite it"):
        export(["r", "--format", "hub", "--out", "model"])
    assert export(["r", "--format", "hub", "--out", "model", "--overwrite"]) == 0
    with pytest.raises(UsageError, match="strips exists; name another --out$"):
        export(["r", "--format", "hub", "--out", "strips", "--overwrite"])
    with pytest.raises(UsageError, match="strips is no folder that"):
        upload(["strips", "user/name"])
    for i in range(2):
        write(f"photos/train/{i}.png", picture(seed=i))
    run_train("--model", "colorization", "--dataroot", "photos", "--name", "grey")
    with pytest.raises(UsageError, match="--model colorization needs code"):
        export(["grey", "--format", "hub"])
    run_train("--model", "pix2pix", "--dataroot", "strips", "--name", "untested")
    assert export(["untested", "--format", "hub"]) == 0
    told = capsys.readouterr().err
    assert "the model card has no metrics or pictures" in told and "--licence names one" in told

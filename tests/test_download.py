"""Downloads from a local server: progress, resume, checksums, and archives that try to get out."""

import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
import torch
from conftest import picture, run_test, write

from data import download
from networks import define_G
from util.errors import UsageError


@pytest.fixture
def server():
    """Serves `files` (path -> bytes) with ranges; `drops` answers are cut in the middle; yields (address, state)."""
    state = {"files": {}, "drops": 0, "ranges": [], "ignore_ranges": False}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = state["files"].get(self.path)
            if content is None:
                self.send_error(404, "Not Found")
                return
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
            start = int(wanted[1]) if wanted and not state["ignore_ranges"] else 0
            state["ranges"].append(start)
            if start >= len(content) and start:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            body = content[start:]
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state["drops"] > 0:
                state["drops"] -= 1
                body = body[: max(1, len(body) // 2)]
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", state
    httpd.shutdown()
    httpd.server_close()


def tar_of(entries):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def image_bytes():
    return Path(write("image.png", picture())).read_bytes()


def test_a_dataset_arrives_in_its_folder(server):
    address, state = server
    state["files"]["/cyclegan/datasets/horse2zebra.zip"] = zip_of({"horse2zebra/trainA/1.png": image_bytes()})
    assert download.main(["horse2zebra", "--mirror", address]) == 0
    assert Path("datasets/horse2zebra/trainA/1.png").exists()
    assert {path.name for path in Path("datasets").iterdir()} == {"horse2zebra"}
    with pytest.raises(UsageError, match="datasets/horse2zebra exists"):
        download.main(["horse2zebra", "--mirror", address])


def test_a_pretrained_generator_translates(server):
    address, state = server
    buffer = io.BytesIO()
    torch.save(define_G(3, 3, 2, "resnet_9blocks", "instance").state_dict(), buffer)
    state["files"]["/cyclegan/pretrained_models/horse2zebra.pth"] = buffer.getvalue()
    assert download.main(["horse2zebra", "--pretrained", "--mirror", address]) == 0
    write("in/x.png", picture())
    assert run_test("--name", "horse2zebra_pretrained", "--dataroot", "in", "--crop_size", "32") == 0


def test_an_interrupted_download_goes_on(server):
    address, state = server
    content = bytes(range(256)) * 4000
    state["files"]["/x"] = content
    state["drops"] = 3
    download.fetch(f"{address}/x", Path("x"))
    assert Path("x").read_bytes() == content
    half = len(content) // 2
    assert state["ranges"] == [0, half, half + half // 2, half + half // 2 + half // 4]
    assert not Path("x.part").exists()
    state["drops"] = 100
    with pytest.raises(UsageError, match="could not be fetched.*y.part"):
        download.fetch(f"{address}/x", Path("y"))
    assert 0 < Path("y.part").stat().st_size < len(content)
    state["drops"] = 0
    download.fetch(f"{address}/x", Path("y"))
    assert Path("y").read_bytes() == content
    Path("z.part").write_bytes(content)  # all there, only the name is missing
    download.fetch(f"{address}/x", Path("z"))
    assert Path("z").read_bytes() == content


def test_a_server_without_ranges_starts_over(server):
    address, state = server
    state["files"]["/x"], state["ignore_ranges"] = b"abc" * 1000, True
    Path("x.part").write_bytes(b"zzz")
    download.fetch(f"{address}/x", Path("x"))
    assert Path("x").read_bytes() == b"abc" * 1000


def test_checksums(server):
    address, state = server
    state["files"]["/x"] = b"content"
    download.fetch(f"{address}/x", Path("x"), hashlib.sha256(b"content").hexdigest())
    with pytest.raises(UsageError, match="hashes to"):
        download.fetch(f"{address}/x", Path("y"), "0" * 64)
    assert not list(Path().glob("y*"))


@pytest.mark.parametrize("name", ["../out.txt", "{absolute}/out.txt", "facades/../../out.txt"])
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_no_path_leaves_the_folder(name, kind, tmp_path):
    name = name.format(absolute=tmp_path / "away")
    Path("d").mkdir()
    archive = Path(f"d/facades.{kind}")
    archive.write_bytes((zip_of if kind == "zip" else tar_of)({name: b"x", "facades/fine.png": b"y"}))
    try:
        download.unpack(archive, Path("d/facades"))
    except UsageError as error:
        assert "can't be unpacked" in str(error)
        assert not Path("d/facades").exists()
    for outside in (Path("out.txt"), Path("d/out.txt"), tmp_path / "away" / "out.txt"):
        assert not outside.exists()
    assert not list(Path("d").glob(".unpack*"))


def test_links_and_torn_archives_are_refused():
    Path("d").mkdir()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    Path("d/a.tar.gz").write_bytes(buffer.getvalue())
    Path("d/b.zip").write_bytes(zip_of({"a": b"x"})[:20])
    Path("d/c.tar.gz").write_bytes(tar_of({"a": b"x" * 5000})[:40])
    with zipfile.ZipFile("d/e.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc")
    for name in ("a.tar.gz", "b.zip", "c.tar.gz", "e.zip"):
        with pytest.raises(UsageError, match="can't be unpacked"):
            download.unpack(Path("d") / name, Path("d/out"))
        assert not Path("d/out").exists()


def test_names(server, capsys):
    address, _state = server
    download.main(["list"])
    assert "horse2zebra" in capsys.readouterr().out
    for argv, message in (
        (["horse2zebr"], "Unknown dataset 'horse2zebr'. Did you mean 'horse2zebra'"),
        (["facades"], "'facades' exists for cycle_gan and pix2pix; choose with --model"),
        (["night2day", "--model", "cycle_gan"], "Unknown dataset 'night2day'"),
        (["cityscapes"], "licence of cityscapes"),
        (["nope", "--pretrained"], "Unknown pretrained generator"),
        (["maps", "--model", "pix2pix"], "answers 404"),
        ([], "arguments are required"),
    ):
        with pytest.raises(UsageError, match=message):
            download.main([*argv, "--mirror", address])
    with pytest.raises(UsageError, match="could not be fetched"):
        download.main(["maps", "--model", "pix2pix", "--mirror", "http://127.0.0.1:1"])


def zip_saying(flag=0, method=zipfile.ZIP_STORED):
    """A zip whose only file claims to be encrypted (flag 1), or compressed in some way."""
    data = bytearray(zip_of({"maps/a.png": b"12345678"}))
    for header, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.index(header) + at
        data[start:start + 4] = flag.to_bytes(2, "little") + method.to_bytes(2, "little")
    return bytes(data)


@pytest.mark.parametrize("content", [zip_saying(flag=1), zip_saying(method=99), zip_saying(method=zipfile.ZIP_DEFLATED),
                                     zip_saying(method=zipfile.ZIP_LZMA), b"PK\x03\x04" + bytes(60), b"no archive"])
def test_archives_that_cannot_be_unpacked_are_one_line(server, content):
    address, state = server
    state["files"]["/cyclegan/datasets/maps.zip"] = content
    with pytest.raises(UsageError, match="can't be unpacked .*; remove it to download it again") as error:
        download.main(["maps", "--model", "cycle_gan", "--mirror", address])
    assert "\n" not in str(error.value)
    assert not Path("datasets/maps").exists()


@pytest.mark.parametrize(("model", "name"), [("cycle_gan", "cyclegan/datasets/maps.zip"),
                                             ("pix2pix", "pix2pix/datasets/maps.tar.gz")])
def test_the_unpacked_size_is_told_and_limited(server, capsys, monkeypatch, model, name):
    address, state = server
    content = {"maps/a.png": bytes(2 ** 21)}
    state["files"][f"/{name}"] = zip_of(content) if model == "cycle_gan" else tar_of(content)
    monkeypatch.setattr(download, "GIB", 2 ** 20)
    with pytest.raises(UsageError, match=r"holds 2\.0 GiB, more than --max_gib 1 or the free"):
        download.main(["maps", "--model", model, "--mirror", address, "--max_gib", "1"])
    assert download.main(["maps", "--model", model, "--mirror", address, "--max_gib", "3"]) == 0
    assert "unpacking 2.00 GiB" in capsys.readouterr().out


def test_a_file_that_has_changed_since_the_first_download_is_refused(server):
    address, state = server
    for content, more in ((b"one", ()), (b"one", ()), (b"two", None), (b"two", hashlib.sha256(b"two").hexdigest()),
                          (b"two", ())):
        state["files"]["/x"] = content
        if more is None:
            with pytest.raises(UsageError, match="as when it was first downloaded"):
                download.fetch(f"{address}/x", Path("x"))
        else:
            download.fetch(f"{address}/x", Path("x"), more or None)
            assert Path("x").read_bytes() == content


def test_https_where_the_host_has_it(monkeypatch, capsys):
    def answers(address, timeout):
        raise download.urllib.error.HTTPError(address, 403, "Forbidden", None, None)

    def lacks(address, timeout):
        raise OSError("connection refused")

    monkeypatch.setattr("urllib.request.urlopen", answers)
    assert download.secure("host") == "https://host"
    monkeypatch.setattr("urllib.request.urlopen", lacks)
    assert download.secure("host") == "http://host"
    assert "host does not answer by https (connection refused); http is used" in capsys.readouterr().err

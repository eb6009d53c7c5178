"""The app in a real browser and by its API: what it returns is what `load` returns, and it asks for nothing outside."""

import base64
import shutil
import socket
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from conftest import picture, write, write_weights
from PIL import Image

from image_translation import load
from image_translation.app import App, main, parse, serve
from models.engine import hardware
from util.errors import UsageError

gradio = pytest.importorskip("gradio")


@pytest.fixture
def address(monkeypatch):
    """The app, serving `checkpoints/cycle` and `checkpoints/one`, weights that describe themselves."""
    monkeypatch.setattr(hardware, "pick_amp", lambda amp, device: "off")
    for folder, names in (("cycle", ("G_A", "G_B")), ("one", ("G",))):
        for seed, name in enumerate(names):
            for tag in ("latest", "3"):
                write_weights(f"checkpoints/{folder}/{tag}_net_{name}.pth", seed)
    Path("checkpoints/cycle/train_opt.json").write_text('{"options": {"model": "cycle_gan"}, "networks": {}}')
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # restored afterwards
    app = App(parse(["one", "cycle", "--device", "cpu", "--port", str(free_port())]))
    yield serve(app)
    gradio.close_all(verbose=False)
    shutil.rmtree(app.folder)


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


DROP = """([place, name, content]) => {
  const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0)), moved = new DataTransfer();
  moved.items.add(new File([bytes], name, { type: "image/png" }));
  place.dispatchEvent(new DragEvent("drop", { dataTransfer: moved, bubbles: true }));
}"""


def test_an_image_is_dropped_and_compared(address, visit):
    file = write("photo.png", picture(70, 50))
    tab = visit(address)
    place = tab.locator("button:has-text('Drop File Here')").first
    content = base64.b64encode(Path(file).read_bytes()).decode()
    tab.evaluate(DROP, [place.element_handle(), "photo.png", content])
    over = tab.locator("img[data-testid=imageslider-image]").nth(1)
    tab.wait_for_function("document.querySelectorAll('img[data-testid=imageslider-image]')[1]?.style.clipPath")
    box = over.bounding_box()
    tab.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2, steps=4)
    tab.mouse.up()
    assert "50%" not in over.get_attribute("style")
    with tab.expect_download() as download:
        tab.locator("a[data-testid=download-link]").last.click()
    assert (pixels(download.value.path()) == np.asarray(load("one", device="cpu")(file))).all()
    tab.get_by_label("tiles").fill("17")
    tab.get_by_role("button", name="Translate", exact=True).click()
    tab.wait_for_selector("text=tiles '17'")


def test_programs_use_its_interface(address):
    client = pytest.importorskip("gradio_client")
    app = client.Client(address, verbose=False)
    file = client.handle_file(write("photo.png", picture(70, 50)))
    choice = {"size": "original size", "tiles": "auto", "checkpoint": "latest"}
    for run, direction in (("one", "AtoB"), ("cycle", "BtoA")):
        (before, _), result = app.predict(file, run=run, direction=direction, api_name="/translate", **choice)
        made = load(run, direction=None if run == "one" else direction, device="cpu")("photo.png")
        assert (pixels(result) == np.asarray(made)).all()
        assert (pixels(before) == picture(70, 50)).all()
    write("folder/a.png", picture(40, 30))
    write("folder/b.jpg", picture(40, 30))
    Path("folder/c.png").write_bytes(Path("folder/a.png").read_bytes()[:90])
    names = [client.handle_file(f"folder/{name}") for name in ("a.png", "b.jpg", "c.png")]
    _, archive, told = app.predict(names, [], run="one", direction="AtoB", api_name="/translate_many", **choice)
    assert told.splitlines()[0] == "2 of 3 translated" and told.splitlines()[1].startswith("c.png: can't be read")
    assert sorted(zipfile.ZipFile(archive).namelist()) == ["a.png", "b.jpg"]
    for wrong in ({"run": "none"}, {"checkpoint": "../../x"}, {"tiles": "x"}, {"size": "huge"}):
        with pytest.raises(Exception, match="there is no run|tiles 'x'"):
            app.predict(file, api_name="/translate", **{"run": "one", "direction": "AtoB", **choice, **wrong})


def test_equal_requests_at_once(address):
    client = pytest.importorskip("gradio_client")
    file = write("photo.png", picture(70, 50))
    expected = np.asarray(load("one", device="cpu")(file))

    def ask(_):
        app = client.Client(address, verbose=False)
        (_, after), result = app.predict(client.handle_file(file), "one", "latest", "AtoB", "original size", "auto",
                                         api_name="/translate")
        return (pixels(result) == expected).all() and (pixels(after) == expected).all()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(6)))


def test_what_it_offers(address):
    app = App(parse(["cycle", "one", "--device", "cpu"]))
    assert (app.choices["cycle"].directions, app.choices["cycle"].checkpoints) == (["AtoB", "BtoA"], ["latest", "3"])
    assert app.choices["one"].directions == ["AtoB"]
    first = app.loaded["one", "latest", "AtoB", "original size", "auto"]
    assert app.translator("one", "latest", "AtoB", "original size", "auto") is first  # not loaded twice
    shutil.rmtree(app.folder)


def test_bad_input_is_one_line(address, monkeypatch):
    assert parse(["one"]).host == "127.0.0.1"
    with pytest.raises(UsageError, match="there is no run two"):
        main(["one", "two", "--device", "cpu"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="--host 127.0.0.1 --port"):
            main(["one", "--device", "cpu", "--port", str(taken.getsockname()[1])])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'the app needs an extra: pip install -e "\.\[app\]"'):
        main(["one"])

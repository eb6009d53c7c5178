"""What shows a training: log lines, the page, live views, and that none of them can stop it."""

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, cli, run_train

from util.progress import Means, Progress
from util.sinks import Background, Sink, Sinks
from util.sinks.live import VisdomView, visdom_answers
from util.sinks.log_file import LogFile, log_line, read_log
from util.sinks.page import Page

PICTURES = {"real_A": np.zeros((8, 8, 3), np.uint8), "fake_B": np.full((8, 8, 3), 255, np.uint8)}


def test_the_established_log_line():
    assert (
        log_line(Progress(1, 100, 100, 0.1234, 0.002), {"G_GAN": 0.5, "D_real": 0.6121})
        == "(epoch: 1, iters: 100, time: 0.123, data: 0.002) G_GAN: 0.500 D_real: 0.612 "
    )


def log(folder, *points):
    file = LogFile(folder, Progress(*points[0]))
    for point in points:
        file.scalars(Progress(*point), {"G": 0.5})
    return file


def test_logs_grow_and_a_torn_line_is_left_out(tmp_path):
    log(tmp_path, (1, 1, 1))
    log(tmp_path, (1, 2, 2))
    with open(tmp_path / "loss_log.jsonl", "a") as file:
        file.write('{"epoch": 1, "it')
    assert [point["total_iters"] for point in read_log(tmp_path)] == [1, 2]
    assert (tmp_path / "loss_log.txt").read_text().count("Training Loss") == 2


def test_a_continued_log_drops_what_is_past_the_restored_point(tmp_path):
    log(tmp_path, (1, 1, 1), (1, 2, 2), (2, 1, 3), (2, 2, 4))
    for name, torn in (("loss_log.txt", "(epoch: 2, iters: 3, ti"), ("loss_log.jsonl", '{"epoch": 1, "it')):
        with open(tmp_path / name, "a") as file:
            file.write(torn)
    LogFile(tmp_path, Progress(2, 1, 3)).scalars(Progress(2, 2, 4), {"G": 0.25})
    assert [(p["total_iters"], p["losses"]["G"]) for p in read_log(tmp_path)] == [
        (1, 0.5),
        (2, 0.5),
        (3, 0.5),
        (4, 0.25),
    ]
    lines = [line for line in (tmp_path / "loss_log.txt").read_text().splitlines() if line.startswith("(")]
    assert [line.split()[1] + line.split()[3] for line in lines] == ["1,1,", "1,2,", "2,1,", "2,2,"]
    assert lines[-1].endswith("G: 0.250 ")


def test_a_log_that_a_crash_has_torn_goes_on(tmp_path):
    log(tmp_path, (1, 1, 1), (1, 2, 2))
    for name, cut in (("loss_log.txt", 4), ("loss_log.jsonl", 1)):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: content.index(b"\n") + 1] + b"\xff\xfe\n" + content[:-cut])
    log(tmp_path, (1, 3, 3))
    assert [point["total_iters"] for point in read_log(tmp_path)] == [1, 1, 3]
    assert (tmp_path / "loss_log.txt").read_text(errors="replace").splitlines()[-1].startswith("(epoch: 1, iters: 3,")


def test_lines_that_do_not_fit_on_the_disk_wait(tmp_path):
    script = """
import resource, sys
from util.progress import Progress
from util.sinks.log_file import LogFile
log = LogFile(".", Progress())
log.scalars(Progress(1, 1, 1), {"G": 1.0})
size = max(log.text.stat().st_size, log.jsonl.stat().st_size)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5, resource.RLIM_INFINITY))
for i in (2, 3):
    try:
        log.scalars(Progress(1, i, i), {"G": 1.0})
    except OSError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
log.scalars(Progress(1, 4, 4), {"G": 1.0})
"""
    done = cli("-c", script, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert (done.returncode, done.stderr) == (0, "")
    assert "large" in done.stdout or "space" in done.stdout
    assert [point["total_iters"] for point in read_log(tmp_path)] == [1, 2, 3, 4]


def test_the_page_keeps_earlier_epochs_and_opens_without_a_network(tmp_path):
    LogFile(tmp_path, Progress()).scalars(Progress(1, 4, 4), {"G": 0.5, "D": float("nan")})
    for epoch in (1, 2, 10):
        Page(tmp_path, "run", 64).images(Progress(epoch), PICTURES)
    text = (tmp_path / "web/index.html").read_text()
    assert text.count('data-epochs="[1, 2, 10]"') == len(PICTURES)
    assert text.index("epoch010_real_A.png") < text.index("epoch010_fake_B.png")
    assert "http" not in text.replace("http://www.w3.org", "")


def test_progress_counts_images():
    at = Progress()
    fired = []
    for _ in range(10):
        at.advance(7)
        fired.append(at.due(20))
    assert fired == [False, False, True, False, False, True, False, False, True, False]
    at.lap()
    assert at.counters() == {"epoch": 1, "iters": 70, "total_iters": 70}
    at.next_epoch()
    assert at.counters() == {"epoch": 2, "iters": 0, "total_iters": 70}


def test_means():
    means = Means()
    for value in (1.0, 2.0, 6.0):
        means.add({"a": torch.tensor(value), "b": torch.tensor([value * 2])})
    assert means.read() == {"a": 3.0, "b": 6.0}
    assert Means().read() == {}


class Keeping(Sink):
    images_every = 2

    def __init__(self):
        self.seen = []

    def scalars(self, at, values):
        self.seen.append(values)

    def images(self, at, pictures):
        self.seen.append(list(pictures))


def test_a_sink_that_fails_is_told_once_and_tried_again(capsys):
    class Sometimes(Keeping):
        def scalars(self, at, values):
            if at.total_iters in (2, 3):
                raise OSError("disk is gone")
            super().scalars(at, values)

    keeping = Sometimes()
    sink = Background("mine", lambda: keeping)
    for i in range(1, 5):
        sink.scalars(Progress(1, i, i), {"G": i})
    sink.close()
    assert capsys.readouterr().err.count("mine failed and is tried again, the training goes on: disk is gone") == 1
    assert keeping.seen == [{"G": 1}, {"G": 4}]


def test_pictures_are_made_only_when_someone_wants_them():
    keeping, made = Keeping(), []
    sinks = Sinks(lambda: [keeping])
    at = Progress()
    for _ in range(4):
        at.advance(1)
        sinks.images_due(at, lambda: made.append(1) or PICTURES)
    sinks.images_due(at, lambda: made.append(1) or PICTURES, last=True)
    assert (len(made), len(keeping.seen)) == (3, 3)


def test_a_hanging_view_blocks_nothing():
    release = threading.Event()

    class Hanging(Sink):
        def scalars(self, at, values):
            release.wait(30)

    view = Background("hanging", Hanging, 1)
    start = time.perf_counter()
    for _ in range(1000):
        view.scalars(Progress(), {"G": 1.0})
    assert time.perf_counter() - start < 5
    view.close(timeout=0.1)
    release.set()


@pytest.fixture
def visdom_server(tmp_path):
    """visdom's own tornado application, without the download of its front end; yields its port and a way to stop it."""
    server = pytest.importorskip("visdom.server.app", reason="needs the extra visdom")
    import asyncio

    import tornado.httpserver
    import tornado.ioloop
    import tornado.netutil

    started, box = threading.Event(), {}

    def serve():
        asyncio.set_event_loop(asyncio.new_event_loop())
        application = server.Application(port=0, env_path=str(tmp_path))
        http = tornado.httpserver.HTTPServer(application)
        sockets = tornado.netutil.bind_sockets(0, "127.0.0.1")
        http.add_sockets(sockets)
        box.update(port=sockets[0].getsockname()[1], app=application, http=http, loop=tornado.ioloop.IOLoop.current())
        started.set()
        box["loop"].start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    assert started.wait(60)

    def stop():
        if thread.is_alive():

            async def end():
                box["http"].stop()
                await box["http"].close_all_connections()
                box["loop"].stop()

            box["loop"].add_callback(end)
            thread.join(10)

    yield box["port"], stop, box["app"]
    stop()


def test_a_real_visdom_server_receives_a_training(strips, visdom_server):
    port, _, application = visdom_server
    run_train(
        "--model",
        "pix2pix",
        "--dataroot",
        strips,
        "--display_id",
        "1",
        "--display_server",
        "http://127.0.0.1",
        "--display_port",
        port,
        "--display_freq",
        "1",
        "--print_freq",
        "1",
        "--display_env",
        "mine",
    )
    windows = application.state["mine"]["jsons"]
    titles = {window["title"] for window in windows.values()}
    assert any("loss over images" in title for title in titles)
    assert any("real_A, fake_B, real_B" in title for title in titles)


def test_a_training_outlives_the_visdom_server(strips, visdom_server, capfd):
    port, stop, _ = visdom_server
    view = Background("visdom", lambda: VisdomView("run", "http://127.0.0.1", port, "main", 4, 1), 1)
    view.scalars(Progress(1, 1, 1), {"G": 1.0})
    time.sleep(1)
    stop()
    for i in range(50):
        view.scalars(Progress(1, i, i), {"G": 1.0})
        view.images(Progress(1, i, i), PICTURES)
    view.close(timeout=20)
    assert "visdom failed and is tried again" in capfd.readouterr().err


def test_no_server_no_view():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert not visdom_answers("http://127.0.0.1", free.getsockname()[1])
    assert not visdom_answers("http://no.such.host.invalid", 1)


def test_tensorboard(strips):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    run_train("--model", "pix2pix", "--dataroot", strips, "--use_tensorboard", "--display_freq", "2")
    files = list(Path("checkpoints/experiment_name/tensorboard").glob("events*"))
    assert len(files) == 1
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(files[0].parent)).Reload().Tags()
    assert "loss/G_L1" in events["scalars"]
    assert "fake_B" in events["images"]


def test_wandb_gets_what_it_needs(strips, monkeypatch):
    """With the library's interface in its place: no account and no network here."""
    import importlib.machinery
    import types

    calls = []
    run = types.SimpleNamespace(log=lambda values: calls.append(set(values)), finish=lambda: calls.append("finish"))
    fake = types.ModuleType("wandb")
    fake.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    fake.init = lambda **kw: calls.append(kw["project"]) or run
    fake.Image = lambda array: array.shape
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run_train(
        "--model", "pix2pix", "--dataroot", strips, "--use_wandb", "--wandb_project_name", "p", "--display_freq", "2"
    )
    assert calls[0] == "p"
    assert {"epoch", "images", "G_L1", "G_GAN", "D_real", "D_fake"} in calls
    assert {"images", "real_A", "fake_B", "real_B"} in calls
    assert calls[-1] == "finish"


def test_quiet_and_line_wise_without_a_terminal(strips, capsys):
    run_train("--model", "pix2pix", "--dataroot", strips)
    captured = capsys.readouterr()
    assert "(epoch: 1, iters: 2, time:" in captured.out
    assert "%|" not in captured.out + captured.err


def test_jsonl_is_what_the_text_says(strips):
    run_train("--model", "pix2pix", "--dataroot", strips)
    point = json.loads(Path("checkpoints/experiment_name/loss_log.jsonl").read_text().splitlines()[0])
    assert f"G_L1: {point['losses']['G_L1']:.3f} " in Path("checkpoints/experiment_name/loss_log.txt").read_text()

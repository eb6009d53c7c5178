"""Animations and videos: frames, times, sound, rotation and colours stay; folders of them are datasets."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import cli, picture, run_test, run_train, train_options, write, write_weights
from PIL import Image

from data import create_dataset
from data.check import main as check
from data.film import read_frame, timestamps, with_frames
from data.image_folder import list_images
from image_translation import load
from image_translation.translate import main
from models.engine import hardware
from networks import define_G
from networks.resnet import ResnetGenerator
from util.errors import UsageError
from util.frames import Frame, file_of, frame_of, stem_of

av = pytest.importorskip("av")
ENCODERS = {".mp4": ("libx264", "aac"), ".mkv": ("libx264", "libopus"), ".webm": ("libvpx-vp9", "libopus"),
            ".mov": ("mpeg4", "aac")}


@pytest.fixture(autouse=True)
def run(monkeypatch):
    """`checkpoints/r`, whose translations are negatives: codecs blur the noise that random weights would make."""
    monkeypatch.setattr(hardware, "pick_amp", lambda amp, device: "off")
    monkeypatch.setattr(ResnetGenerator, "forward", lambda self, x: -x)
    write_weights("checkpoints/r/latest_net_G.pth")


def translate(*argv):
    return main(["r", *map(str, argv), "--device", "cpu"])


def pictures(count, width=64, height=48):
    """A light moving over a picture."""
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        light = 80 * np.exp(-((x - 3 * i) ** 2 + (y - height / 2) ** 2) / 200)
        yield np.clip(picture(width, height).astype(float) * 0.6 + light[:, :, None], 0, 255).astype(np.uint8)


def write_video(path, count=12, size=(64, 48), rate=Fraction(30000, 1001), sound=True, full_range=False, options=None):
    """A video with sound whose frames are `pictures`."""
    video_codec, audio_codec = ENCODERS[Path(path).suffix]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(video_codec, rate=rate, options={"crf": "8", "b": "2M", "g": "5", "qscale": "2"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        if full_range:
            stream.codec_context.color_range = 2
        audio = container.add_stream(audio_codec, rate=48000) if sound else None
        for array in pictures(count, *size):
            frame = av.VideoFrame.from_ndarray(array, "rgb24").reformat(
                format="yuv420p", dst_color_range=2 if full_range else 1, src_color_range=2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            wave = 0.3 * np.sin(np.arange(int(48000 * count / rate)) / 20).astype(np.float32)
            samples = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
            samples.rate, samples.pts = 48000, 0
            context = audio.codec_context
            to = av.AudioResampler(format=context.format, layout=context.layout, rate=48000,
                                   frame_size=context.frame_size or 960)
            for part in (*to.resample(samples), *to.resample(None)):
                container.mux(audio.encode(part))
            container.mux(audio.encode())
    return str(path)


def read_video(path):
    """Frames as (H, W, 3), their times in seconds, and the bytes of the sound."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [(frame.to_ndarray(format="rgb24").astype(int), float(frame.pts * frame.time_base))
                 for frame in container.decode(stream)]
    with av.open(str(path)) as container:
        tracks = container.streams.audio
        sound = b"".join(bytes(packet) for packet in container.demux(*tracks)) if tracks else b""
    return *zip(*found, strict=True), sound


def apart(one, other):
    """The mean difference of two images."""
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other).astype(int)).mean())


@pytest.mark.parametrize("suffix", ENCODERS)
def test_frames_times_and_sound_stay(suffix, capsys):
    source = write_video(f"clips/a{suffix}")
    assert translate("clips", "--out", "out") == 0
    before, times, sound = read_video(source)
    after, new_times, new_sound = read_video(f"out/a{suffix}")
    assert new_times == pytest.approx(times, abs=1e-3) and len(times) == 12
    assert new_sound == sound != b""
    made = load("r", device="cpu")
    for frame, translation in zip(before, after, strict=True):
        assert apart(made(frame.astype(np.uint8)), translation) < 6  # of 255: a lossy codec
    assert "1 file translated: out/index.html" in capsys.readouterr().out
    page = Path("out/index.html").read_text()
    assert f'src="../clips/a{suffix}"' in page and f'src="a{suffix}"' in page
    with av.open(source) as one, av.open(f"out/a{suffix}") as other:
        assert one.streams.video[0].average_rate == other.streams.video[0].average_rate
        assert one.duration == pytest.approx(other.duration, abs=45000)  # microseconds: less than a frame
    written = Path(f"out/a{suffix}").stat().st_mtime_ns
    assert translate("clips", "--out", "out") == 0 and Path(f"out/a{suffix}").stat().st_mtime_ns == written


def test_the_colour_range_stays():
    for full in (False, True):
        source = write_video(f"{full}.mp4", count=4, full_range=full)
        assert translate(source, "--out", "out") == 0
        with av.open(source) as one, av.open(f"out/{full}.mp4") as other:
            ranges = [c.streams.video[0].codec_context.color_range for c in (one, other)]
        assert ranges[0] == ranges[1] == (2 if full else 0)
        expected = load("r", device="cpu")(next(pictures(1)))
        found = np.asarray(read_frame(Frame(f"out/{full}.mp4", 0, 0))).astype(int)
        assert apart(found, expected) < 6


@pytest.mark.parametrize("turn", (90, 180, 270))
def test_a_video_of_a_turned_phone_is_upright(turn):
    """The matrix of the track's header says how players turn the pictures."""
    write_video("phone.mp4", count=3, sound=False)
    content = bytearray(Path("phone.mp4").read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 36  # version and flags, then 36 bytes before the matrix
    one = 0x10000
    matrix = {90: (0, one, 0, -one, 0, 0), 180: (-one, 0, 0, 0, -one, 0), 270: (0, -one, 0, one, 0, 0)}[turn]
    content[at:at + 24] = struct.pack(">6i", *matrix)
    Path("phone.mp4").write_bytes(content)
    assert translate("phone.mp4", "--out", "out") == 0
    plain = Image.fromarray(next(pictures(1)))
    seen = np.asarray(plain.rotate(-turn, expand=True))  # clockwise, as the matrix says
    with av.open("out/phone.mp4") as container:
        frame = next(container.decode(video=0))
        found = frame.to_ndarray(format="rgb24").astype(int)
    assert frame.rotation == 0 and found.shape == seen.shape
    assert apart(found, load("r", device="cpu")(seen)) < 6


@pytest.mark.parametrize("suffix", (".gif", ".webp", ".apng", ".png"))
def test_animations(suffix):
    first, *rest = [Image.fromarray(array) for array in pictures(6)]
    first.save(f"a{suffix}", format="PNG" if "png" in suffix else None, save_all=True, append_images=rest,
               duration=[70, 30, 70, 130, 70, 70], loop=3)
    assert translate(f"a{suffix}", "--out", "out") == 0
    made = load("r", device="cpu")
    with Image.open(f"a{suffix}") as one, Image.open(f"out/a{suffix}") as other:
        assert one.n_frames == other.n_frames == 6
        assert one.info["loop"] == other.info["loop"] == 3
        for i in range(6):
            one.seek(i), other.seek(i)
            expected = np.asarray(made(one.convert("RGB"))).astype(int)
            assert apart(expected, other.convert("RGB")) < (0.01 if "png" in suffix else 6)
            assert round(other.info["duration"]) == [70, 30, 70, 130, 70, 70][i]


@pytest.mark.parametrize(("source", "to", "count"), (("a.mp4", "gif", 8), ("a.mp4", "webm", 8), ("a.gif", "mp4", 8),
                                                     ("a.mp4", "webp", 8)))
def test_another_format(source, to, count):
    if source.endswith("gif"):
        first, *rest = [Image.fromarray(array) for array in pictures(8, 63, 47)]  # odd: no 4:2:0
        first.save(source, save_all=True, append_images=rest, duration=40)
    else:
        write_video(source, count=8, rate=25, sound=False)
    assert translate(source, "--out", "out", "--to", to) == 0
    if to in ("gif", "webp"):
        with Image.open(f"out/a.{to}") as image:
            for i in range(8):
                image.seek(i)
                assert image.convert("RGB") and image.info["duration"] == 40
    else:
        frames, times, _ = read_video(f"out/a.{to}")
        assert times == pytest.approx([i / 25 for i in range(8)], abs=1e-3)
        assert frames[0].shape == ((47, 63, 3) if source == "a.gif" else (48, 64, 3))


def test_the_noise_of_dropout_is_the_same_in_each_frame():
    torch.manual_seed(1)
    torch.save(define_G(3, 3, 4, "unet_32", "batch", use_dropout=True).state_dict(), "checkpoints/r/latest_net_G.pth")
    still = [Image.fromarray(picture(64, 64))] * 5
    still[0].info["duration"] = 40
    (frame := still[0].copy()).putpixel((0, 0), (9, 9, 9))  # else Pillow writes one long frame
    frame.save("still.png", save_all=True, append_images=[*still[1:], frame], duration=40)
    assert translate("still.png", "--out", "out", "--batch_size", 2) == 0
    with Image.open("out/still.png") as image:
        frames = [image.seek(i) or np.asarray(image.convert("RGB")) for i in range(image.n_frames)]
    assert len(frames) >= 3
    assert all((one == frames[0]).all() for one in (frames[0], frames[-1]))


def test_from_python(capsys):
    source = write_video("a.mp4", count=5)
    load("r", device="cpu").video(source, "made/b.mkv")
    assert len(read_video("made/b.mkv")[0]) == 5
    with pytest.raises(ValueError, match=r"nothing.mp4: can't be read"):
        load("r", device="cpu").video("nothing.mp4", "b.mp4")
    with pytest.raises(ValueError, match=r"b.txt: .* known: .apng"):
        load("r", device="cpu").video(source, "b.txt")


def test_what_is_wrong_with_a_video_is_one_line(capsys):
    whole = Path(write_video("whole/fast.mp4", count=40, options={"movflags": "faststart"})).read_bytes()
    Path("in").mkdir()
    Path("in/torn.mp4").write_bytes(whole[:len(whole) * 2 // 3])
    Path("in/text.mp4").write_text("no video")
    Path("in/empty.webm").write_bytes(b"")
    with av.open("in/sound.mkv", "w") as container:
        audio = container.add_stream("libopus", rate=48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="flt", layout="mono")
        frame.rate = 48000
        container.mux(audio.encode(frame))
        container.mux(audio.encode())
    assert translate("in", "--out", "out") == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 4 and not any("Traceback" in line for line in errors)
    for start in ("skipped in/text.mp4: can't be read: ", "skipped in/empty.webm: ", "skipped in/sound.mkv: ",
                  "incomplete in/torn.mp4: "):
        assert sum(line.startswith(start) for line in errors) == 1, errors
    assert 0 < len(read_video("out/torn.mp4")[0]) < 40
    assert sorted(path.name for path in Path("out").iterdir()) == [".image-translation.json", "index.html", "torn.mp4"]


def test_pictures_of_another_size_end_a_video(capsys):
    parts = []
    for size in ((64, 48), (96, 80)):
        with av.open("part.ts", "w", format="mpegts") as container:
            stream = container.add_stream("libx264", rate=25, options={"g": "1", "bf": "0"})
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            for array in pictures(4, *size):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(array, "rgb24")))
            container.mux(stream.encode())
        parts.append(Path("part.ts").read_bytes())
    Path("in").mkdir()
    Path("in/change.mp4").write_bytes(b"".join(parts))
    write_video("in/other.mp4", count=4, sound=False)
    assert translate("in", "--out", "out") == 1
    error, = capsys.readouterr().err.splitlines()
    assert error.startswith("incomplete in/change.mp4: can't be read after 4 frames: the next ones have another size, ")
    assert len(read_video("out/change.mp4")[0]) == len(read_video("out/other.mp4")[0]) == 4


def test_a_variable_frame_rate_is_not_truncated(capsys):
    times = [0, 33, 133, 633, 666, 766, 1266, 1299, 1399]
    with av.open("vfr.mkv", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for array, moment in zip(pictures(9), times, strict=True):
            frame = av.VideoFrame.from_ndarray(array, "rgb24")
            frame.pts, frame.time_base = moment, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert translate("vfr.mkv", "--out", "out") == 0
    assert read_video("out/vfr.mkv")[1] == pytest.approx([moment / 1000 for moment in times], abs=2e-3)
    assert not capsys.readouterr().err


def test_an_avi_whose_time_stamps_are_in_the_order_of_decoding():
    with av.open("in.avi", "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "crf": "8"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(0, 240, 20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), "rgb24")))
        container.mux(stream.encode())
    levels = [np.asarray(read_frame(frame_of(name))).mean() for name in with_frames(["in.avi"], 1)]
    assert levels == pytest.approx(range(0, 240, 20), abs=2)
    assert translate("in.avi", "--out", "out") == 0
    frames, times, _ = read_video("out/in.mp4")
    assert [frame.mean() for frame in frames] == pytest.approx([255 - level for level in levels], abs=4)
    assert [moment - times[0] for moment in times] == pytest.approx([i / 25 for i in range(12)], abs=1e-3)


def test_a_format_for_photographs_and_videos(capsys):
    write_video("in/a.mp4", count=3, sound=False)
    write("in/b.png", picture())
    for to, names in (("WEBM", {"a.webm", "b.png"}), ("jpg", {"a.mp4", "b.jpg"}), (".webp", {"a.webp", "b.webp"})):
        assert translate("in", "--out", f"out{to}", "--to", to) == 0
        assert {path.name for path in Path(f"out{to}").iterdir()} - {".image-translation.json", "index.html"} == names
    for wrong in ("exe", "../../x"):
        with pytest.raises(UsageError, match=rf"--to {wrong} is not written; known: .*\.mp4.*\.png"):
            translate("in", "--out", "out", "--to", wrong)
    Path("torn.mp4").write_text("torn")
    assert translate("torn.mp4", "--out", "none") == 1 and not Path("none/index.html").exists()


def test_videos_that_are_no_pairs():
    write_video("pairs/trainA/a.mp4", count=6, sound=False)
    write_video("pairs/trainB/a.mp4", count=4, sound=False)
    with pytest.raises(UsageError, match="pairs/trainA/a.mp4 has 6 frames and pairs/trainB/a.mp4 has 4 frames; cut"):
        run_train("--model", "pix2pix", "--dataroot", "pairs")
    Path("pairs/trainB/a.mp4").write_text("torn")
    with pytest.raises(UsageError, match="has 6 frames and pairs/trainB/a.mp4 has none that can be read"):
        run_train("--model", "pix2pix", "--dataroot", "pairs")


def test_the_picture_for_programs_without_animations_is_no_frame():
    first, *rest = [Image.fromarray(array) for array in pictures(5)]
    first.save("a.apng", format="PNG", save_all=True, append_images=rest, default_image=True, duration=80)
    assert translate("a.apng", "--out", "out") == 0
    with Image.open("out/a.apng") as image:
        assert image.n_frames == 4
        assert apart(image.convert("RGB"), load("r", device="cpu")(rest[0])) < 1
    assert [frame_of(name).number for name in with_frames(["a.apng"], 1)] == [1, 2, 3, 4]


def test_sound_that_can_not_be_copied_is_left_out_and_said(capsys):
    source = write_video("a.mp4", count=4)  # aac, which webm can't hold
    assert translate(source, "--out", "out", "--to", "webm") == 1
    assert "incomplete a.mp4: its audio track 1 (aac) can't be copied" in capsys.readouterr().err
    assert len(read_video("out/a.webm")[0]) == 4


@pytest.mark.parametrize("content", (
    "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9.0,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "ffconcat version 1.0\nfile secret.mp4\n"))
def test_a_file_that_leads_to_others_is_not_followed(capsys, content):
    write_video("in/secret.mp4", count=3, sound=False)
    Path("in/list.mp4").write_text(content)
    assert translate("in/list.mp4", "--out", "out") == 1
    assert "skipped in/list.mp4: can't be read" in capsys.readouterr().err
    assert timestamps("in/list.mp4") == []


def test_pictures_that_are_too_large(capsys):
    source = write_video("a.mp4", count=2, size=(1200, 900), sound=False)
    assert translate(source, "--out", "out", "--max_megapixels", 1) == 1
    assert "skipped a.mp4: has larger pictures than --max_megapixels 1" in capsys.readouterr().err


def test_a_codec_that_is_missing(monkeypatch, capsys):
    source = write_video("a.mp4", count=4)
    monkeypatch.setattr(av, "codecs_available", set())
    assert translate(source, "--out", "out") == 1
    assert "a.mp4: mp4 needs one of the codecs libx264, mpeg4" in capsys.readouterr().err
    assert not Path("out/a.mp4").exists()


def test_without_the_extra(monkeypatch, capsys):
    import data.film
    import data.image_folder

    source = write_video("clips/a.mp4", count=4)
    write("clips/b.png", picture())
    monkeypatch.setattr(data.film, "HAS_VIDEO", False)
    monkeypatch.setattr(data.image_folder, "HAS_VIDEO", False)
    with pytest.raises(UsageError, match=r'needs an extra: pip install -e "\.\[video\]"'):
        translate(source, "--out", "one")
    assert translate("clips", "--out", "out") == 0
    assert 'videos need an extra: pip install -e ".[video]"' in capsys.readouterr().err


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path):
    """Of a process that translates 30 frames, and one that translates 300."""
    script = ("import sys, resource, torch; torch.set_num_threads(1)\nfrom image_translation import load\n"
              "made = load('r', device='cpu', amp='off')\n"
              "for end in ('mp4', 'gif'): made.video(sys.argv[1], f'out.{end}')\n"
              "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)")
    used = []
    for count in (30, 300):
        source = write_video(f"{count}.mp4", count=count, size=(192, 144), sound=False)
        done = cli("-c", script, source, env={"PYTHONPATH": str(Path(__file__).parents[1])})
        used.append(int(done.stdout.split()[-1]))
    assert used[1] < used[0] + 12_000  # KiB; 270 frames are 22,000 as bytes


def test_the_page_plays_both_at_the_same_moment(visit):
    write_video("a.webm", count=60, sound=False)
    write_video("b.mp4", count=4, sound=False)
    assert translate("a.webm", "b.mp4", "--out", "out") == 0
    tab = visit("out/index.html")
    assert tab.locator("h2").all_inner_texts() == ["a.webm", "b.mp4"]
    moments = "[...document.querySelectorAll('video')].slice(0, 2).map(video => video.currentTime)"
    tab.evaluate("document.querySelector('video').currentTime = 1")
    tab.wait_for_function(f"{moments}[1] == 1")
    tab.evaluate("document.querySelector('video').play()")
    tab.wait_for_function("!document.querySelectorAll('video')[1].paused")
    tab.wait_for_function(f"{moments}[1] > 1.1")
    one, other = tab.evaluate(moments)
    assert abs(one - other) < 0.2


# Folders of videos as data.

def test_names_of_frames():
    frame = frame_of("a/clip.mp4#12@6006")
    assert frame == Frame("a/clip.mp4", 12, 6006) and str(frame) == "a/clip.mp4#12@6006"
    assert (file_of("a/clip.gif#3"), stem_of("a/clip.gif#3")) == ("a/clip.gif", "a/clip_00003")
    assert frame_of("a#1.png") is None and file_of("a#1.png") == "a#1.png" and stem_of("a#1.png") == "a#1"


def test_frames_are_read_at_random():
    source = write_video("a.mp4", count=12)
    frames = list(with_frames([source], 1))
    assert len(frames) == len(timestamps(source)) == 12
    before, _, _ = read_video(source)
    for number in (7, 0, 11, 3):
        assert (np.asarray(read_frame(frame_of(frames[number]))) == before[number]).all()
    assert [frame_of(name).number for name in with_frames([source], 5)] == [0, 5, 10]


def test_a_training_and_a_test_on_videos_and_animations(capsys):
    for domain in "AB":
        write_video(f"films/train{domain}/clip.mp4", count=6, size=(72, 72), sound=False)
        first, *rest = [Image.fromarray(array) for array in pictures(4, 72, 72)]
        Path(f"films/train{domain}").mkdir(exist_ok=True)
        first.save(f"films/train{domain}/b.gif", save_all=True, append_images=rest)
        write(f"films/train{domain}/c.png", picture(72, 72))
    run_train("--model", "pix2pix", "--dataroot", "films", "--frame_step", 2)
    assert "6 images in films/trainA, frames of 2 videos and animations among them" in capsys.readouterr().out
    assert run_test("--dataroot", "films/trainA", "--frame_step", 3) == 0
    names = sorted(path.name for path in Path("results/experiment_name/test_latest/images").glob("*_fake.png"))
    assert names == ["b_00000_fake.png", "b_00003_fake.png", "c_fake.png", "clip_00000_fake.png", "clip_00003_fake.png"]
    assert run_test("--dataroot", "films/trainA/clip.mp4", "--frame_step", 3) == 0


def test_a_split_is_by_file_never_by_frame():
    for i in range(5):
        write_video(f"films/trainA/{i}.mp4", count=6, size=(72, 72), sound=False)
        write(f"films/trainB/{i}.png", picture(72, 72))
    parts = []
    for training in (True, False):
        opt = train_options("--model", "cycle_gan", "--dataroot", "films", "--val_split", 0.4, "--num_threads", 0)
        opt.isTrain = training
        parts.append({Path(file_of(path)).name for path in create_dataset(opt).dataset.paths_A})
    assert (len(parts[0]), len(parts[1])) == (3, 2) and not parts[0] & parts[1]


def test_videos_are_checked(capsys):
    for domain in "AB":
        write_video(f"films/train{domain}/clip.mp4", count=6, sound=False)
    Path("films/trainB/torn.mp4").write_text("torn")
    assert check(["films", "--num_threads", "0", "--frame_step", "2"]) == 1
    out = capsys.readouterr().out
    assert "trainA: 3, uint8, 3 channels, 64x48" in out
    assert "films/trainB/torn.mp4: can't be read" in out and "same stem" not in out


def test_a_list_of_images_has_no_videos_for_plugins():
    write_video("folder/a.mp4", count=2, sound=False)
    write("folder/b.png", picture())
    assert list_images("folder") == ["folder/b.png"]

"""What translating costs with a trained run, part by part; resnet_9blocks with 64 channels and random weights.

    python benchmarks/translate.py start call rate large onnx video    # or some of them; --device cuda

start   seconds until test.py has translated one image, by phase
call    `load`, then one image of 256x256: the second call against the network alone
rate    images per second of `image-translation translate`, against network, reading and writing alone
large   6000x4000 in tiles against 1500x1000 whole: time per pixel and peak memory; and how far tiles are from the whole
video   a video against its frames as files, and its memory at ten times the length; 16 channels
onnx    the exported file in onnxruntime: its difference, and its time against torch's
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from image_translation import load
from networks import define_G

ROOT = Path(__file__).resolve().parent.parent


def prepare(images: int) -> None:
    """A run of random weights and a folder of JPEGs of 256x256, in the working folder."""
    folder = Path("checkpoints/bench")
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(define_G(3, 3, 64, "resnet_9blocks", "instance").state_dict(), folder / "latest_net_G.pth")
    Path("images").mkdir()
    for i in range(images):
        picture(256, 256, i).save(f"images/{i}.jpg", quality=95)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.BICUBIC)


def seconds(run: Callable[[], object], times: int = 1) -> float:
    """Of one of `times` runs, on the average."""
    begin = time.perf_counter()
    for _ in range(times):
        run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / times


def process(*argv: str) -> float:
    """Seconds of a Python process."""
    return seconds(lambda: subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL,
                                          stderr=subprocess.DEVNULL, cwd=os.getcwd()))


def start(device: str) -> None:
    """Phases of a run of test.py with one image."""
    Path("one").mkdir()
    picture(256, 256).save("one/0.jpg")
    test = (str(ROOT / "test.py"), "--name", "bench", "--dataroot", "one", "--preprocess", "none", "--device", device)
    process(*test)  # files into the page cache
    imports = min(process("-c", "import torch") for _ in range(2))
    ours = min(process("-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); import runpy; "
                             f"runpy.run_path({str(ROOT / 'test.py')!r})") for _ in range(2))
    whole = min(process(*test) for _ in range(3))
    print(f"start: test.py with one image takes {whole:.2f} s, of which importing torch {imports:.2f} s, other modules "
          f"{ours - imports:.2f} s, the rest {whole - ours:.2f} s")


def network_alone(device: str, batch: int) -> float:
    """Seconds per image of 256x256, as the default options run it."""
    translate = load("bench", device=device)
    translate("images/0.jpg")
    x = torch.rand(batch, 3, 256, 256, device=translate.opt.device) * 2 - 1
    net = translate.model.netG
    with torch.no_grad(), torch.autocast(translate.opt.device.type, enabled=False):
        net(x)
        return min(seconds(lambda: net(x), 3) for _ in range(5)) / batch


def call(device: str) -> None:
    """The second call of a loaded run, and those after it, against the network."""
    begin = time.perf_counter()
    translate = load("bench", device=device)
    loading = time.perf_counter() - begin
    image = np.asarray(Image.open("images/0.jpg"))
    first = seconds(lambda: translate(image))
    second = min(seconds(lambda: translate(image), 3) for _ in range(5))
    alone = network_alone(device, 1)
    print(f"call: load {loading:.2f} s, first call {first * 1e3:.0f} ms, later ones {second * 1e3:.1f} ms, the network "
          f"alone {alone * 1e3:.1f} ms: {second / alone:.2f} x")


def rate(device: str) -> None:
    """A folder, against what limits it."""
    from image_translation.files import write
    from image_translation.translate import main as translate_command

    count = len(list(Path("images").iterdir()))
    translate = load("bench", device=device)
    files = [f"images/{i}.jpg" for i in range(count)]
    reading = seconds(lambda: [translate.dataset.prepare(file) for file in files[:100]]) / min(count, 100)
    array = np.asarray(Image.open(files[0]))
    writing = seconds(lambda: [write(array, files[0], Path("alone.jpg"), None, False) for _ in range(100)]) / 100
    network = network_alone(device, translate.opt.batch_size)
    begin = time.perf_counter()
    translate_command(["bench", "images", "--out", "translated", "--device", device])
    whole = time.perf_counter() - begin
    slowest = max(network, reading, writing)
    begin = time.perf_counter()
    load("bench", device=device)(files[0])
    steady = (whole - (time.perf_counter() - begin)) / (count - 1)
    print(f"rate: {count} images in {whole:.2f} s, after the start {1 / steady:.1f} images/s; alone: network "
          f"{1 / network:.1f}, reading {1 / reading:.1f}, writing {1 / writing:.1f} on one thread: "
          f"{slowest / steady:.2f} x the slowest")


def video(device: str) -> None:
    """A video against its frames as files, and the memory of a process for ten times its length (extra: video)."""
    import av

    frames = [np.asarray(picture(256, 256, seed=i % 20)) for i in range(20)]
    for count in (300, 3000):
        with av.open(f"{count}.mp4", "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.width = stream.height = 256
            stream.pix_fmt = "yuv420p"
            for i in range(count):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frames[i % 20], "rgb24")))
            container.mux(stream.encode())
    Path("frames").mkdir(exist_ok=True)
    Path("checkpoints/small").mkdir(parents=True, exist_ok=True)  # quick, so that reading and writing count
    torch.save(define_G(3, 3, 16, "resnet_9blocks", "instance").state_dict(), "checkpoints/small/latest_net_G.pth")
    for i in range(300):
        Image.fromarray(frames[i % 20]).save(f"frames/{i:03d}.png")
    command = [sys.executable, "-m", "image_translation", "translate", "small"]
    took = {}
    for kind in ("frames", "300.mp4", "frames", "300.mp4", "3000.mp4"):
        begin = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", PEAK, *command, kind, "--out", f"out_{kind}", "--overwrite",
                               "--device", device], check=True, capture_output=True, text=True, env={
                                  **os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"})
        took[kind] = min(took.get(kind, (1e9, 0)), (time.perf_counter() - begin, int(done.stdout.split()[-1]) // 1024))
    files, short, long = took["frames"], took["300.mp4"], took["3000.mp4"]
    print(f"video: 300 frames in {short[0]:.1f} s, as files in {files[0]:.1f} s: {files[0] / short[0]:.2f} x the rate; "
          f"peak memory {short[1]} MiB, of 3000 frames {long[1]} MiB")


PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
ONE = """
import resource, sys, time
sys.path.insert(0, {root!r})
import numpy as np, torch
from PIL import Image
from image_translation.translator import Translator
translate = Translator("bench", device={device!r}, tile={tile!r}, options=["--amp", {amp!r}])
image = np.load({image!r})
translate(image[:256, :256].copy())
if torch.cuda.is_available():
    torch.cuda.reset_peak_memory_stats()
begin = time.perf_counter()
out = translate(image)
print(time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** 20,
      torch.cuda.max_memory_allocated() / 2 ** 30 if torch.cuda.is_available() else 0)
np.save({out!r}, out)
"""


def one(width: int, height: int, tile: int | None, device: str, amp: str = "auto") -> tuple[float, str, np.ndarray]:
    """Microseconds per pixel, the peak memory in words, and the translation, in a process of its own."""
    np.save("large.npy", np.asarray(picture(width, height)))
    code = ONE.format(root=str(ROOT), device=device, tile=tile, amp=amp, image="large.npy", out="out.npy")
    words = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    taken, host, gpu = map(float, words[-3:])
    return (taken / width / height * 1e6, f"{host:.2f} GiB" + (f", {gpu:.2f} GiB on the GPU" if gpu else ""),
            np.load("out.npy").astype(int))


def large(device: str) -> None:
    """Tiles of a large image against smaller images whole."""
    whole, _, _ = one(1500, 1000, None, device)
    tiled, memory, _ = one(6000, 4000, 512, device)
    print(f"large: 6000x4000 in tiles {tiled:.2f} us a pixel, 1500x1000 whole {whole:.2f}: {tiled / whole:.2f} x; peak "
          f"{memory}")
    for amp in ("off", "auto"):
        difference = np.abs(one(2000, 1500, 512, device, amp)[2] - one(2000, 1500, None, device, amp)[2])
        print(f"large: 2000x1500, --amp {amp}: tiles differ from the whole by {difference.mean():.4f} of 255 in the "
              f"mean, {difference.max()} at most")


def onnx(device: str) -> None:
    """The exported file in onnxruntime, on the CPU."""
    import onnxruntime

    from image_translation.export import main as export

    export(["bench", "--out", "bench.onnx"])
    session = onnxruntime.InferenceSession("bench.onnx", providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 256, 256)).astype(np.float32)
    net = define_G(3, 3, 64, "resnet_9blocks", "instance").eval()
    net.load_state_dict(torch.load("checkpoints/bench/latest_net_G.pth", weights_only=True))
    with torch.no_grad():
        difference = np.abs(session.run(None, {"image": x})[0] - net(torch.from_numpy(x)).numpy()).max()
        times = [(seconds(lambda: session.run(None, {"image": x}), 2), seconds(lambda: net(torch.from_numpy(x)), 2))
                 for _ in range(4)]
    theirs, plain = (min(column) for column in zip(*times, strict=True))
    print(f"onnx: {theirs * 1e3:.0f} ms in onnxruntime, {plain * 1e3:.0f} ms plainly in torch: {theirs / plain:.2f} x; "
          f"they differ by {difference:.1e}")


def main() -> None:
    """Run the requested parts and print their figures."""
    parts = {"start": start, "call": call, "rate": rate, "large": large, "onnx": onnx, "video": video}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="start, call, rate, large, onnx, video; all unless given")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--device", default="auto")
    opt = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        prepare(opt.images)
        for name in opt.parts or parts:
            parts[name](opt.device)
        os.chdir("/")


if __name__ == "__main__":
    main()

"""Write the generator of a run for other programs: image-translation export RUN --format onnx."""

import copy
import importlib
import io
import json
import warnings
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from image_translation import hub
from image_translation.runs import add_options
from image_translation.translator import Translator, from_options
from models.engine.state import networks
from models.engine.validation import values_of
from networks.fast.table import plain
from networks.layers import without_parametrizations
from networks.per_image import translating
from util.cli import OneLineParser, run
from util.errors import UsageError, one_line
from util.files import atomic
from util.notices import notice, tell

SIZES = ((64, 64), (101, 131), (256, 256), (300, 37), (129, 255))  # (height, width) at which a file is compared
SMALL = ((64, 64), (33, 51), (32, 32), (60, 20), (63, 47))  # for torch in half precision, slow on a CPU
BOUND = {False: 1e-3, True: 1e-2}  # largest difference from the run, in [-1, 1]; True: in half precision
DYNAMIC = torch.export.Dim.DYNAMIC


def parse(argv: Sequence[str]) -> Namespace:
    """The options of a command line; raises UsageError."""
    parser = OneLineParser(prog="image-translation export", description=__doc__.splitlines()[0])
    add_options(parser)
    add = parser.add_argument
    add("--format", choices=(*FORMATS, "hub"), default="onnx", help="file format; hub writes a folder for the Hub")
    add("--results_dir", default="./results/", help="hub: folder of what test.py wrote, for the model card")
    add("--out", default=None, metavar="FILE", help="name of the file; RUN.onnx, .pt, .pt2 or RUN_hub unless given")
    add("--half", action="store_true", help="float16 instead of float32")
    add("--images", action="store_true", help="uint8 (N, H, W, C) in and out, instead of (N, C, H, W) in [-1, 1]")
    add("--licence", default="", help="licence of the weights, recorded in the metadata")
    add("--overwrite", action="store_true", help="replace a file of that name")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> int:
    """Export as the command line says; a file that differs from the run is not written."""
    opt = parse(argv)
    name = Path(opt.run).resolve().name.removesuffix(".pth")
    if opt.format == "hub":
        return export_folder(opt, Path(opt.out or f"{name}_hub"))
    suffix, write, read = FORMATS[opt.format]
    target = Path(opt.out or f"{name}{suffix}")
    if target.is_dir() or target.suffix == ".pth":
        what = "a folder" if target.is_dir() else "the name of a checkpoint"
        raise UsageError(f"--out {target} is {what}; name a file such as {target.stem}{suffix}")
    if target.exists() and not opt.overwrite:
        raise UsageError(f"{target} exists; name another --out, or --overwrite it")
    opt.amp, opt.compile, opt.device = "off", "off", "cpu"
    translator = from_options(opt, size="kept", tile=None)
    net = generator_of(translator)
    module: Any = Exported(translator.model.exported(as_tested(net, translator.opt.eval)), translator, opt.images)
    module = (module.half() if opt.half else module).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of exporters, about themselves
        try:
            content = write(module, module.example(), metadata(translator, opt))
            sizes = SMALL if opt.half and opt.format != "onnx" else SIZES
            difference = compare(read(content), module, net, translator, sizes)
        except ImportError as error:
            raise UsageError(f'--format {opt.format} needs an extra ({one_line(error)}): pip install -e ".[export]"'
                             ) from error
        except Exception as error:  # of a plugin's network: anything
            raise UsageError(f"{type(net).__name__} can't be exported as {opt.format}: {one_line(error)}") from error
    if not difference <= BOUND[opt.half]:
        raise UsageError(f"{target} is not written: it would differ from the run by {difference:.2g}, more than "
                         f"{BOUND[opt.half]}; another --format may do")
    with atomic(target, "wb") as file:
        file.write(content)
    tell(f"{target}: {len(content) / 2 ** 20:.1f} MiB, differs from the run by at most {difference:.1e} in [-1, 1], at "
         f"{len(sizes)} sizes")
    return 0


def export_folder(opt: Namespace, target: Path) -> int:
    """Export a folder for the Hub."""
    if target.exists() and not (opt.overwrite and hub.is_hub_folder(target)):
        raise UsageError(f"{target} exists; name another --out{', or --overwrite it' * hub.is_hub_folder(target)}")
    opt.amp, opt.compile, opt.device = "off", "off", "cpu"
    translator = from_options(opt, size="kept", tile=None)
    net = next(net for name, net in networks(translator.model).items() if name.startswith("G"))
    hub.export(opt, plain(net), translator.opt, metadata(translator, opt), target)
    tell(f'{target}: {hub.WEIGHTS}, {hub.CONFIG} and {hub.CARD}; load("{target}") translates, and `image-translation '
         f'upload {target} USER/NAME` publishes it')
    return 0


def generator_of(translator: Translator) -> nn.Module:
    """The network that translates, without dropout, which no file can repeat."""
    net = next(net for name, net in networks(translator.model).items() if name.startswith("G"))
    drops = [module for module in net.modules() if isinstance(module, _DropoutNd) and module.p > 0]
    if drops and not translator.opt.eval:
        notice("dropout", "the run translates with dropout, which the file leaves out: its output differs visibly")
    for module in drops:
        module.p = 0.0
    return net


def as_tested(net: nn.Module, evaluate: bool) -> nn.Module:
    """A plain copy of a network in which each image has its own statistics, as in a test, unless `evaluate`."""
    net = without_parametrizations(plain(copy.deepcopy(net)).float().requires_grad_(False))
    for parent in list(net.modules()):
        for name, module in parent.named_children():
            if isinstance(module, _DropoutNd):
                setattr(parent, name, nn.Identity())
            elif isinstance(module, _BatchNorm) and not evaluate:
                own = nn.InstanceNorm2d(module.num_features, module.eps, affine=module.affine)
                own.load_state_dict({key: module.state_dict()[key] for key in own.state_dict()})
                setattr(parent, name, own.requires_grad_(False))
    return net


class Exported(nn.Module):
    """A generator as other programs call it: (N, C, H, W) in [-1, 1], or uint8 images (N, H, W, C), in and out."""

    images: torch.jit.Final[bool]
    one: Tensor

    def __init__(self, net: nn.Module, translator: Translator, images: bool):
        super().__init__()
        takes = getattr(net, "arguments", {}).get("input_nc", translator.opt.input_nc)
        if takes != translator.opt.input_nc:
            raise UsageError(f"a run of --model {translator.opt.model} can't be exported: its network takes more than "
                             f"an image")
        own_colours = translator.through_dataset and translator.channels != translator.opt.output_nc
        if images and (translator.dataset.label_maps or own_colours):
            seen = "label maps" if translator.dataset.label_maps else "their lightness"
            raise UsageError(f"--images is for runs whose networks see images, and this one sees {seen}")
        self.net, self.images = net, images
        self.channels: int = getattr(net, "channels", translator.opt.input_nc)  # more, if it sees more than an image
        source = translator.dataset.source
        ranges = [values_of(translator.opt, domain) for domain in (source, "AB".replace(source, ""))]
        if images and any(values.depth != "uint8" for values in ranges):
            raise UsageError("--images is for runs of 8-bit images; without it, the file takes values in [-1, 1]")
        self.low_in, self.scale_in = ranges[0].low, 2 / (ranges[0].high - ranges[0].low)
        self.low_out, self.scale_out = ranges[1].low, (ranges[1].high - ranges[1].low) / 2
        self.register_buffer("one", torch.ones(()), persistent=False)  # has the type of the weights

    def forward(self, image: Tensor) -> Tensor:
        if not self.images:
            return self.net(image)
        x = (image.permute(0, 3, 1, 2).float() - self.low_in) * self.scale_in - 1
        y = (self.net(x.to(self.one)).float() + 1) * self.scale_out + self.low_out
        return y.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)

    def example(self, batch: int = 2, size: tuple[int, int] = (97, 131)) -> Tensor:
        """Random input of a size (H, W), the same each time."""
        random = torch.Generator().manual_seed(sum(size))
        if self.images:
            return torch.randint(0, 256, (batch, *size, self.channels), generator=random, dtype=torch.uint8)
        return (torch.rand((batch, self.channels, *size), generator=random) * 2 - 1).to(self.one.dtype)


def compare(exported: Callable[[Tensor], Tensor], module: Exported, net: nn.Module, translator: Translator,
            sizes: Sequence[tuple[int, int]]) -> float:
    """The largest difference between a file and the run in float32, in [-1, 1]; for uint8 images, beyond rounding."""
    largest = 0.0
    for i, size in enumerate(sizes):
        x = module.example(1 + i % 2, size)
        y = exported(x).float()
        if module.images:
            x = (x.permute(0, 3, 1, 2).float() - module.low_in) * module.scale_in - 1
            y = (y.permute(0, 3, 1, 2) - module.low_out) / module.scale_out - 1
        model, seeds = translator.model, [0] * len(x)
        with torch.no_grad(), translating(model, seeds, torch.device("cpu"), translator.opt.eval):
            expected = model.exported(net)(x.float())
        if expected.shape != y.shape:
            return float("inf")
        rounding = 0.5 / module.scale_out if module.images else 0.0
        largest = max(largest, (y - expected).abs().max().item() - rounding)
    return max(largest, 0.0)


def metadata(translator: Translator, opt: Namespace) -> dict[str, str]:
    """What a user of the file has to know."""
    run = translator.opt
    try:
        number = version("image-translation")
    except PackageNotFoundError:
        number = ""
    values = "uint8 (N, H, W, C), 0..255" if opt.images else "(N, C, H, W), -1..1"
    given = "(N, C, H, W), 0 and 1" if run.label_nc else values
    source, target = translator.model.domains()
    enters, leaves = values_of(run, source), values_of(run, target)
    facts = {"input": given, "output": values, "input_nc": run.input_nc, "output_nc": run.output_nc,
             "direction": run.direction, "run": run.name, "epoch": run.epoch, "netG": run.netG,
             "depth_in": enters.depth, "range_in": enters.limits, "depth_out": leaves.depth, "range_out": leaves.limits,
             "licence": opt.licence, "written_by": f"image-translation {number}".strip()}
    return {key: str(value) for key, value in facts.items()}


def program_of(module: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """The graph of a network for any batch and size, including those that a U-Net reduces to one pixel."""
    config: Any = importlib.import_module("torch.fx.experimental._config")

    rows, columns = (1, 2) if module.images else (2, 3)
    with config.patch(backed_size_oblivious=True), torch.no_grad():
        return torch.export.export(module, (example,), dynamic_shapes=({0: DYNAMIC, rows: DYNAMIC, columns: DYNAMIC},))


def write_onnx(module: nn.Module, example: Tensor, facts: dict[str, str]) -> bytes:
    """ONNX: https://onnx.ai."""
    import onnxruntime  # noqa: F401  # named before the work begins
    import onnxscript  # noqa: F401

    axes = ({0: "batch", 1: "height", 2: "width"} if module.images else {0: "batch", 2: "height", 3: "width"},)
    program = torch.onnx.export(program_of(module, example), dynamo=True, verbose=False, input_names=["image"],
                                output_names=["translation"], dynamic_shapes=axes)
    assert program is not None
    program.model.metadata_props.update(facts)
    return program.model_proto.SerializeToString()


def read_onnx(content: bytes) -> Callable[[Tensor], Tensor]:
    """A function of tensors."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return lambda x: torch.from_numpy(session.run(None, {"image": x.numpy()})[0])


def write_torchscript(module: nn.Module, example: Tensor, facts: dict[str, str]) -> bytes:
    """TorchScript, for libtorch."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module), buffer, _extra_files={"metadata.json": json.dumps(facts)})
    return buffer.getvalue()


def read_torchscript(content: bytes) -> Callable[[Tensor], Tensor]:
    """A function of tensors."""
    return torch.jit.load(io.BytesIO(content))


def write_pt2(module: nn.Module, example: Tensor, facts: dict[str, str]) -> bytes:
    """The archive of torch.export, for torch and AOTInductor."""
    buffer = io.BytesIO()
    torch.export.save(program_of(module, example), buffer, extra_files={"metadata.json": json.dumps(facts)})
    return buffer.getvalue()


def read_pt2(content: bytes) -> Callable[[Tensor], Tensor]:
    """A function of tensors."""
    return torch.export.load(io.BytesIO(content)).module()


FORMATS: dict[str, tuple[str, Callable, Callable]] = {
    "onnx": (".onnx", write_onnx, read_onnx), "torchscript": (".pt", write_torchscript, read_torchscript),
    "pt2": (".pt2", write_pt2, read_pt2),
}

if __name__ == "__main__":
    run(main)

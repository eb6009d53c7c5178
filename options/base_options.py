"""Options of training and testing, and how a command line is put together."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import data
import models
from data.loading.cache import CACHES
from data.transforms import PREPROCESS, width_height
from networks import DISCRIMINATORS, GENERATORS, NORMS
from networks.fast.precision import AMP
from networks.layers import INIT_TYPES
from options.config_file import read_config
from options.parser import Parser
from options.record import read_record, run_name
from util.device import pick_device
from util.errors import UsageError
from util.files import inside
from util.images import DEPTHS
from util.notices import notice
from util.plugins import add_plugin_dir, plugin_names
from util.seed import derive
from util.types import natural, not_negative, number_or_inf, positive, seed, size, words


class BaseOptions(ABC):
    """`parse(argv)` resolves: command line > --config > what the run recorded > dataset > model > base."""

    is_train: bool

    def initialize(self, parser: Parser) -> None:
        """Add what training and testing share."""
        add = parser.add_argument
        add("--dataroot", required=True, help="folder of the images (layouts: docs/data.md), or `demo`")
        add("--name", default="experiment_name", help="name of the run: where it is saved and found")
        add("--checkpoints_dir", default="./checkpoints", help="folder of the runs")
        add("--suffix", default="", help="appended to --name, e.g. {model}_{netG}_size{load_size}")
        add("--model", default="cycle_gan")
        add("--dataset_mode", default="unaligned")
        add("--plugin_dir", default=None, help="folder of your own *_model.py and *_dataset.py files")
        add("--config", default=None, help="YAML or JSON file of options; the command line wins")
        add("--direction", default="AtoB", choices=("AtoB", "BtoA"), help="which domain becomes which")

        add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
        add("--gpu_ids", default=None, help="the older spelling: 0 is --device cuda:0, -1 is --device cpu")
        add("--seed", type=seed, default=None, help="random seed; drawn and recorded unless given")
        add("--amp", default="auto", choices=AMP, help="mixed precision; auto: bf16 where that is quicker")
        add("--compile", default="auto", choices=("auto", "on", "off"), help="compiled networks; auto: where the run "
                                                                             "is long enough to repay it")

        add("--input_nc", type=positive, default=3, help="channels of the images that enter")
        add("--output_nc", type=positive, default=3, help="channels of the images that leave")
        add("--ngf", type=positive, default=64, help="channels of the generator's first layer")
        add("--ndf", type=positive, default=64, help="channels of the discriminator's first layer")
        add("--netG", default="resnet_9blocks", choices=GENERATORS, help="generator")
        add("--netD", default="basic", choices=DISCRIMINATORS, help="discriminator")
        add("--n_layers_D", type=positive, default=3, help="layers of --netD n_layers")
        add("--norm", default="instance", choices=NORMS, help="normalisation")
        add("--no_dropout", action="store_true", help="no dropout in the generator")
        add("--init_type", default="normal", choices=INIT_TYPES, help="initialisation")
        add("--init_gain", type=not_negative, default=0.02, help="scale of the initial weights")

        add("--preprocess", default="resize_and_crop", choices=PREPROCESS, help="resize, crop or neither")
        add("--load_size", type=size, default=286, help="resize to this: one number, or WIDTHxHEIGHT")
        add("--crop_size", type=size, default=256, help="then crop to this: one number, or WIDTHxHEIGHT")
        add("--no_flip", action="store_true", help="no random flips in training")
        add("--serial_batches", action="store_true", help="take the images in order")
        add("--max_dataset_size", type=number_or_inf, default=float("inf"), help="use only so many images")
        add("--batch_size", type=positive, default=1, help="images per batch")
        add("--num_threads", type=natural, default=4, help="processes that read images; 0 reads between the steps")
        add("--cache", default="auto", choices=CACHES, help="where decoded and resized images are kept while training; "
                                                            "auto: ram, as far as a quarter of what is free")
        add("--worker_timeout", type=positive, default=120, help="seconds after which such a process counts as hung")
        for domain in "AB":
            add(f"--depth_{domain}", default="auto", choices=("auto", *DEPTHS), help=f"what files of {domain} hold")
            add(f"--range_{domain}", default="auto", help=f"LOW:HIGH, the values of {domain} that become -1 and 1; "
                                                          f"auto: 0:255, or what 16-bit and float files span")

        add("--epoch", default="latest", help="which checkpoint to load: latest, best or an epoch")
        add("--load_iter", type=natural, default=0, help="load iter_N instead, if above 0")
        add("--phase", default="train" if self.is_train else "test", help="train, val, test: part of folder names")
        add("--metrics", type=words, default="auto" if self.is_train else "",
            help="what to score, with commas; auto: l1,psnr,ssim,colours,swd, and lpips,fid,kid where weights are")
        add("--metric_weights", default=None, help="file or folder of pretrained weights for lpips, fid and kid")
        add("--display_winsize", type=positive, default=256, help="width of the pictures on a page")
        add("--use_wandb", action="store_true", help="log to Weights and Biases (extra: wandb)")
        add("--wandb_project_name", default="CycleGAN-and-pix2pix", help="wandb project")
        add("--verbose", action="store_true", help="print the networks' layers, and tracebacks of errors")

    @abstractmethod
    def from_record(self, first: argparse.Namespace, record: dict, plugin_options: set[str] | None) -> dict[str, Any]:
        """What is taken from the record of the run, by option name; asked again once the plugins' options are known."""

    def settle(self, opt: argparse.Namespace) -> None:
        """Settle what follows from other options; raise UsageError where they contradict each other."""
        if "crop" in opt.preprocess and ("resize" in opt.preprocess or "scale" in opt.preprocess):
            load, crop = width_height(opt.load_size), width_height(opt.crop_size)
            if load[0] < crop[0] or ("resize" in opt.preprocess and load[1] < crop[1]):
                raise UsageError(f"--load_size {opt.load_size} is smaller than --crop_size {opt.crop_size}; a crop is "
                                 f"cut from the loaded size")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The resolved options of a command line; raises UsageError, or prints help and exits."""
        opt, record = self.gather(list(argv))
        opt.isTrain = self.is_train
        opt.plugin_dir = opt.plugin_dir and str(Path(opt.plugin_dir).resolve())
        inside(opt.checkpoints_dir, opt.name, "--name")
        if opt.seed is None:
            opt.seed = derive(torch.seed()) if self.is_train else 0
        opt.gpu_ids, opt.device = pick_device(opt.device, opt.gpu_ids)
        self.settle(opt)
        if opt.dataroot == "demo":
            from data.demo import prepare

            opt.dataroot = prepare(opt, record.get("options", {}).get("dataset_mode"))
        return opt

    def gather(self, argv: list[str]) -> tuple[argparse.Namespace, dict[str, dict]]:
        """Learn step by step which run, model and dataset are meant, then parse for good; also the run's record."""
        parser = Parser(argv)
        self.initialize(parser)
        config: dict[str, Any] = {}
        values: dict[str, Any] = {}  # of the record

        def so_far() -> argparse.Namespace:
            parser.argv = parser.tokens({**values, **config}) + argv
            return parser.parse_known_args()[0]

        config.update(read_config(so_far().config))
        first = so_far()
        record = {} if first.suffix else read_record(first.checkpoints_dir, first.name)
        values.update(self.from_record(first, record, None))
        if not Path(values.get("plugin_dir") or ".").is_dir():
            notice("plugins", f"--plugin_dir {values['plugin_dir']} of run {first.name} is no longer there")
            values["plugin_dir"] = record["options"]["plugin_dir"] = None
        first = so_far()
        if first.plugin_dir:
            add_plugin_dir(first.plugin_dir, "models", "data", "util.metrics")
        model = first.model
        trained = None if self.is_train else import_recorded_model(record)
        if model == "test" and trained is not None and not trained.one_sided:
            model = record["options"]["model"]
            notice("one-sided", f"run {first.name} is translated by its own --model {model}")
        base = {action.dest for action in parser._actions}
        parser = models.find_model_using_name(model).modify_commandline_options(parser, self.is_train) or parser
        dataset = data.find_dataset_using_name(so_far().dataset_mode)
        parser = dataset.modify_commandline_options(parser, self.is_train) or parser
        if first.suffix:  # it may mention what was not known before
            record = read_record(first.checkpoints_dir, run_name(so_far()))
        if not {"-h", "--help"} & set(argv):
            added = {action.dest for action in parser._actions} - base
            values.update(self.from_record(so_far(), record, added))
        so_far()
        for key in config:
            if parser.option_for(key) is None:
                parser.refuse(f"--{key}", first.config)
        for dest, package, kind in (("model", "models", "model"), ("dataset_mode", "data", "dataset")):
            parser.option_for(dest).help = f"{', '.join(plugin_names(package, kind))}, or package.module:Class"
        parser.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS,
                            help="list the options of this model and dataset")
        opt = parser.parse_args()
        opt.name, opt.model = run_name(opt), model
        return opt, record


def import_recorded_model(record: dict[str, dict]) -> type[models.BaseModel] | None:
    """Import the model the run was trained with: its file may register the generator that --model test must build."""
    name = record.get("options", {}).get("model")
    if name:
        try:
            return models.find_model_using_name(name)
        except (UsageError, ImportError) as error:
            notice("recorded model", f"the run was trained with --model {name}, which is not here ({error})")
    return None

"""Options that training and testing share."""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from data.loading.cache import CACHES
from data.transforms import PREPROCESS, width_height
from models.engine.hardware import AMP, ROWS, check_rows
from networks import DISCRIMINATORS, GENERATORS, NORMS
from networks.layers import INIT_TYPES
from options.parser import Parser
from options.passes import Passes
from options.record import FAST
from util.device import pick_device
from util.errors import UsageError
from util.files import inside
from util.images import DEPTHS
from util.notices import fresh, notice
from util.seed import derive
from util.types import natural, not_negative, number, number_or_inf, positive, seed, size, words


class BaseOptions(ABC):
    """`parse(argv)` resolves: command line > --config > what the run recorded > dataset > model > base."""

    is_train: bool

    def initialize(self, parser: Parser) -> None:
        """Add what training and testing share."""
        add = parser.add_argument
        add("--dataroot", required=True, help="folder of images (layouts: docs/data.md), or `demo`")
        add("--name", default="experiment_name", help="name of the run")
        add("--checkpoints_dir", default="./checkpoints", help="folder of the runs")
        add("--suffix", default="", help="appended to --name, e.g. {model}_{netG}_size{load_size}")
        add("--model", default="cycle_gan")
        add("--dataset_mode", default="unaligned")
        add("--plugin_dir", default=None, help="folder of your own *_model.py and *_dataset.py files")
        add("--config", default=None, help="YAML or JSON file of options; the command line wins")
        add("--direction", default="AtoB", choices=("AtoB", "BtoA"), help="which domain is translated into which")

        add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
        add("--gpu_ids", default=None, help="older form of --device: 0 is cuda:0, -1 is cpu")
        add("--seed", type=seed, default=None, help="random seed; drawn and recorded unless given")
        add("--amp", default="auto", choices=AMP, help="mixed precision; auto: bf16 if it is faster here")
        add("--compile", default="auto", choices=("auto", "on", "off"), help="compiled networks; auto: if the run is "
                                                                             "long enough to repay it")
        add("--plain", action="store_true", help="run networks as they are written: float32, uncompiled, nothing "
                                                 "replaced; for debugging")
        add("--without", type=words, default=[], help=f"replacements of modules to leave out: {', '.join(ROWS)}")

        add("--input_nc", type=positive, default=3, help="channels of input images")
        add("--output_nc", type=positive, default=3, help="channels of output images")
        add("--ngf", type=positive, default=64, help="channels of the generator's first layer")
        add("--ndf", type=positive, default=64, help="channels of the discriminator's first layer")
        add("--netG", default="resnet_9blocks", choices=GENERATORS, help="generator")
        add("--netD", default="basic", choices=DISCRIMINATORS, help="discriminator")
        add("--n_layers_D", type=positive, default=3, help="layers of --netD n_layers")
        add("--norm", default="instance", choices=NORMS, help="normalisation")
        add("--no_dropout", action="store_true", help="no dropout in the generator")
        add("--init_type", default="normal", choices=INIT_TYPES, help="initialisation")
        add("--init_gain", type=not_negative, default=0.02, help="scale of the initial weights")

        add("--preprocess", default="resize_and_crop", choices=PREPROCESS, help="how images are resized and cropped")
        add("--load_size", type=size, default=286, help="resize to this: one number, or WIDTHxHEIGHT")
        add("--crop_size", type=size, default=256, help="then crop to this: one number, or WIDTHxHEIGHT")
        add("--no_flip", action="store_true", help="no random flips in training")
        add("--serial_batches", action="store_true", help="take the images in order")
        add("--max_dataset_size", type=number_or_inf, default=float("inf"), help="use at most this many images")
        add("--batch_size", type=positive, default=1, help="images per batch")
        add("--num_threads", type=natural, default=4, help="data workers; 0 reads in the main process")
        add("--cache", default="auto", choices=CACHES, help="where decoded, resized images are cached in training; "
                                                            "auto: ram, at most a quarter of what is free")
        add("--worker_timeout", type=positive, default=120, help="seconds after which a silent worker counts as hung")
        for domain in "AB":
            add(f"--depth_{domain}", default="auto", choices=("auto", *DEPTHS), help=f"depth of the files of {domain}")
            add(f"--range_{domain}", default="auto", help=f"LOW:HIGH, the values of {domain} mapped to -1 and 1, or "
                                                          f"percentiles, 1%%:99%%; auto: 0:255, or the span of "
                                                          f"16-bit and float files")

        add("--more_data", type=words, default=[], help="further data roots, comma-separated, whose images join those "
                                                        "of --dataroot")
        add("--crops", type=positive, default=1, help="random crops of each image in an epoch, for large images (with "
                                                      "--preprocess crop)")
        add("--labels", default="", help="labels of the images: `folders`, its folder is an image's class, or a CSV "
                                         "file: file names, then a column of classes, or one for each attribute")
        add("--attributes", type=words, default=[], help="the labels to use, comma-separated; all, unless given")
        add("--exclusive", action="store_true", help="each image has exactly one of the attributes; found in training")
        add("--label_nc", type=natural, default=0, help="the input images are label maps, palette or grey images of "
                                                        "the numbers 0 to N - 1 (255: no label): a channel for each")
        add("--instances", default=None, help="folder of images of the instances' numbers, laid out like the data "
                                              "root: their edges are a further channel")
        add("--masks", default=None, help="folder of masks, laid out like the data root: images are translated where "
                                          "theirs is white")
        add("--nodata", type=number, default=None, help="value of pixels without data, besides NaN and what files say")
        add("--keep_profile", action="store_true", help="do not convert embedded colour profiles to sRGB")
        add("--max_megapixels", type=positive, default=256, help="largest image, in millions of pixels of 4 bytes")

        add("--epoch", default="latest", help="which checkpoint to load: latest, best or an epoch")
        add("--load_iter", type=natural, default=0, help="load checkpoint iter_N instead, if above 0")
        add("--phase", default="train" if self.is_train else "test", help="train, val, test: part of folder names")
        add("--metrics", type=words, default="auto" if self.is_train else "",
            help="metrics, comma-separated; auto: l1,psnr,ssim,colours,swd, and lpips,fid,kid if weights are here")
        add("--metric_weights", default=None, help="file or folder of pretrained weights for lpips, fid and kid")
        add("--frame_step", type=positive, default=1, help="read every Nth frame of animations and videos")
        add("--display_winsize", type=positive, default=256, help="width of the pictures on a page")
        add("--use_wandb", action="store_true", help="log to Weights and Biases (extra: wandb)")
        add("--wandb_project_name", default="CycleGAN-and-pix2pix", help="wandb project")
        add("--verbose", action="store_true", help="print the layers of networks, and tracebacks")

    @abstractmethod
    def from_record(self, first: argparse.Namespace, record: dict, plugin_options: set[str] | None) -> dict[str, Any]:
        """Option -> value taken from the run's record; called again once the plugins' options are known."""

    def settle(self, opt: argparse.Namespace) -> None:
        """Derive options from others; raise UsageError if they contradict each other."""
        if "crop" in opt.preprocess and ("resize" in opt.preprocess or "scale" in opt.preprocess):
            load, crop = width_height(opt.load_size), width_height(opt.crop_size)
            if load[0] < crop[0] or ("resize" in opt.preprocess and load[1] < crop[1]):
                raise UsageError(f"--load_size {opt.load_size} is smaller than --crop_size {opt.crop_size}; a crop is "
                                 f"cut from the loaded size")
        if opt.label_nc or opt.instances:
            self.settle_labels(opt)
        if opt.masks and opt.input_nc != opt.output_nc:
            raise UsageError(f"--masks keeps the input outside, so --input_nc {opt.input_nc} and --output_nc "
                             f"{opt.output_nc} must be equal")
        check_rows(opt.without)
        for name, plain in FAST.items() if opt.plain else ():
            value = getattr(opt, name, plain[0])
            if value not in plain:
                words = "" if value is True else f" {','.join(value) if isinstance(value, list) else value}"
                raise UsageError(f"--plain and --{name}{words} exclude each other: --plain runs networks as they are "
                                 f"written, in float32 (--plain=false takes back a recorded --plain)")

    def settle_labels(self, opt: argparse.Namespace) -> None:
        """Derive the channels of label maps; raise UsageError for instances without them, or other channels."""
        planes = opt.label_nc + bool(opt.instances)
        if not 0 < opt.label_nc < 256:
            raise UsageError(f"--label_nc {opt.label_nc}: label maps have from 1 to 255 classes, and --instances needs "
                             f"them")
        if self.is_train and "input_nc" not in opt.typed:
            opt.input_nc = planes
        later = not self.is_train and not opt.instances and opt.input_nc == planes + 1  # the dataset asks for instances
        if opt.input_nc != planes and not later:
            hint = "leave it out" if self.is_train else "the run was trained without --instances"
            raise UsageError(f"--label_nc {opt.label_nc}{' and --instances' * bool(opt.instances)} make {planes} input "
                             f"channels, not --input_nc {opt.input_nc}: {hint}")

    @fresh()
    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The resolved options of a command line; raises UsageError, or prints help and exits."""
        passes = Passes(self, list(argv))
        passes.config_file()
        passes.recorded_run()
        passes.plugins()
        opt, record = passes.final()
        opt.isTrain = self.is_train
        opt.trained_on = record.get("options", {}).get("dataset_mode")
        opt.plugin_dir = opt.plugin_dir and str(Path(opt.plugin_dir).resolve())
        inside(opt.checkpoints_dir, opt.name, "--name")
        if opt.seed is None:
            opt.seed = derive(torch.seed()) if self.is_train else 0
        opt.gpu_ids, opt.device = pick_device(opt.device, opt.gpu_ids)
        self.settle(opt)
        before = record.get("options", {}).get("device", opt.device.type).partition(":")[0]
        if getattr(opt, "continue_train", False) and before != opt.device.type:
            notice("moved", f"run {opt.name} was trained on {before} and continues on {opt.device.type} with --amp "
                            f"{opt.amp} --compile {opt.compile} --cuda_graph {opt.cuda_graph}; `auto` for each chooses "
                            f"afresh")
        if opt.dataroot == "demo":
            from data.demo import prepare

            opt.dataroot = prepare(opt, opt.trained_on)
        return opt

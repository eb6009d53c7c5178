"""Options of test.py."""

import argparse
from typing import Any

from options.base_options import BaseOptions
from options.parser import Parser
from options.record import generator_options
from util.errors import UsageError
from util.types import number_or_inf, positive, ratio, tile, words

# What testing takes from the record, besides the plugins' own options.
FROM_RECORD = {"netG", "netD", "ngf", "ndf", "n_layers_D", "norm", "no_dropout", "input_nc", "output_nc", "direction",
               "crop_size", "preprocess", "depth_A", "depth_B", "range_A", "range_B", "nodata", "keep_profile",
               "max_megapixels", "seed", "label_nc", "plugin_dir", "labels", "attributes", "exclusive"}


class TestOptions(BaseOptions):
    """What testing takes; `--model test --name RUN --dataroot FOLDER` is enough for every trained run."""

    __test__ = False  # pytest would collect it
    is_train = False

    def initialize(self, parser: Parser) -> None:
        super().initialize(parser)
        add = parser.add_argument
        add("--results_dir", default="./results/", help="folder of the results")
        add("--num_test", type=number_or_inf, default=float("inf"), help="maximum number of images")
        add("--ema", action="store_true", help="translate with the moving average of the generator")
        add("--eval", action="store_true", help="running statistics of batch norm, no dropout")
        add("--aspect_ratio", type=ratio, default=1.0, help="stretch written images: above 1 wider, below 1 taller")
        add("--tile", type=tile, default="auto", help="side of the tiles that larger images are divided into; auto: if "
                                                      "the whole does not fit into memory; off: never")
        add("--n_samples", type=positive, default=1, help="translations of each image, where noise makes them differ")
        add("--asked", type=words, default=[], help="attributes to translate into, of a run with labels; default: all")
        parser.set_defaults(model="test", load_size=None, batch_size=None)
        parser.option_for("batch_size").help = "images of one size translated at once; 8 on a GPU, else 1, unless given"
        parser.option_for("load_size").help = "resize to this; what --crop_size is, unless given"

    def from_record(self, first: argparse.Namespace, record: dict, plugin_options: set[str] | None) -> dict[str, Any]:
        options = record.get("options", {})
        wanted = FROM_RECORD | (plugin_options or set())
        if first.model == options.get("model"):
            wanted |= {"dataset_mode"}
        values = {key: value for key, value in options.items() if key in wanted}
        if values.get("preprocess") == "crop":  # which keeps the scale: whole images are translated at the same one
            values["preprocess"] = "none"
        if plugin_options is None:
            return values
        if "model_suffix" in plugin_options or not record:
            values |= generator_options(first, record)
        elif first.direction != options.get("direction", first.direction):
            raise UsageError(f"run {first.name} was trained with --direction {options['direction']}; --model "
                             f"{first.model} tests that direction, --model test can use the other generator of a cycle")
        return values

    def settle(self, opt: argparse.Namespace) -> None:
        if opt.load_size is None:
            opt.load_size = opt.crop_size
        if opt.batch_size is None:  # a model of a plugin may show one image of a batch
            opt.batch_size = 8 if opt.device.type == "cuda" and opt.model == "test" else 1
        opt.max_dataset_size = min(opt.max_dataset_size, opt.num_test)
        super().settle(opt)

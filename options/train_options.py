"""Options of train.py."""

import argparse
import importlib.util
from typing import Any

from models.engine.schedule import LR_POLICIES
from networks import AUGMENTATIONS, DISTANCES, OBJECTIVES
from networks.distances import parse
from options.base_options import BaseOptions
from options.parser import Parser
from options.record import FAST
from util.errors import UsageError
from util.metrics import find_metrics
from util.types import fraction, natural, not_negative, positive, words

NOT_ON_RESUME = {"name", "suffix", "checkpoints_dir", "continue_train", "config", "epoch", "load_iter", "verbose",
                 "device", "gpu_ids", "init_from", "epoch_count",
                 "display_server"}  # a received run may not say where pictures go


class TrainOptions(BaseOptions):
    """What training takes; `--continue_train --name RUN` is a whole command line."""

    is_train = True

    def initialize(self, parser: Parser) -> None:
        super().initialize(parser)
        add = parser.add_argument
        add("--n_epochs", type=natural, default=100, help="epochs with the initial learning rate")
        add("--n_epochs_decay", type=natural, default=100, help="epochs of decay after them (linear and cosine)")
        add("--epoch_count", type=positive, default=1, help="number of the first epoch")
        add("--lr", type=not_negative, default=0.0002, help="initial learning rate of Adam")
        add("--beta1", type=fraction, default=0.5, help="momentum of Adam")
        add("--beta2", type=fraction, default=0.999, help="decay of Adam's mean of squared gradients")
        add("--lr_policy", default="linear", choices=LR_POLICIES, help=f"learning rate: {', '.join(LR_POLICIES)}")
        add("--lr_decay_iters", type=positive, default=50, help="epochs between the steps of --lr_policy step")
        add("--gan_mode", default="lsgan", choices=OBJECTIVES, help=f"GAN objective: {', '.join(OBJECTIVES)}")
        add("--spectral_norm", action="store_true", help="spectral normalisation in the discriminator")
        add("--r1", type=not_negative, default=0, help="gamma of the gradient penalty on real images; 0: none")
        add("--gp", type=not_negative, default=0, help="weight of the zero-centred gradient penalty between real and "
                                                       "generated images; 0: none")
        add("--penalty_every", type=positive, default=16, help="compute these penalties every N steps, weighted by N")
        add("--diffaugment", type=words, default=[], help=f"differentiable augmentation of what the discriminator "
                                                          f"sees: {', '.join(AUGMENTATIONS)}")
        add("--lambda_feature", type=not_negative, default=0, help="weight of feature matching in the discriminator")
        add("--reconstruction", type=words, default=["l1"], help=f"distance of the losses that compare with the truth "
            f"or the input, NAME or NAME:WEIGHT, comma-separated: {', '.join(DISTANCES)}")
        add("--began_gamma", type=fraction, default=0.5, help="of --gan_mode began: energy of generated images over "
                                                              "that of real ones")
        add("--n_critic", type=positive, default=1, help="discriminator steps per generator step")
        add("--lr_D", type=not_negative, default=None, help="learning rate of discriminators; --lr, unless given")
        add("--pool_size", type=natural, default=50, help="size of the discriminator's image history; 0 turns it off")

        add("--continue_train", action="store_true", help="resume the run --name from its last state")
        add("--init_from", default=None, help="fine-tune the weights of this run, folder or .pth file")
        add("--save_latest_freq", type=positive, default=5000, help="images between saves of `latest`")
        add("--save_minutes", type=not_negative, default=10, help="minutes between saves of `latest`; 0 turns it off")
        add("--save_epoch_freq", type=positive, default=5, help="epochs between numbered checkpoints")
        add("--save_by_iter", action="store_true", help="also keep saves between epochs, as iter_N")
        add("--keep", type=natural, default=0, help="how many numbered checkpoints to keep; 0 keeps all")

        add("--val_freq", type=natural, default=5, help="epochs between validations; 0 turns them off")
        add("--val_split", type=fraction, default=0, help="share of the training images to validate on, instead "
                                                          "of the phase val")
        add("--val_images", type=positive, default=500, help="maximum number of images to validate on")
        add("--best_metric", default="auto", help="what best_net_*.pth and --lr_policy plateau follow: a metric, also "
                                                  "of one output (fake_B/ssim); auto: lpips or l1, else kid or swd")
        add("--patience", type=natural, default=0, help="validations without improvement after which training stops; "
                                                        "0: never")
        add("--ema", type=fraction, default=0, help="decay of a moving average of the generators (0.999), which is "
                                                    "validated and saved as *_ema.pth; 0 turns it off")

        add("--accumulate", type=positive, default=1, help="batches per optimizer step: the gradient of a larger "
                                                           "batch in the memory of one")
        add("--checkpoint_activations", action="store_true", help="recompute activations: less memory, more time")
        add("--cuda_graph", default="auto", choices=("auto", "on", "off"),
            help="replay the step as one CUDA graph, for capturable models")

        add("--grad_clip", type=not_negative, default=0, help="limit for the L2 norm of a gradient; 0: none")
        add("--nan_patience", type=positive, default=10, help="consecutive non-finite steps after which the last "
                                                              "save is restored")
        add("--max_bad_images", type=natural, default=100, help="stop after this many unusable images")
        add("--stall_minutes", type=not_negative, default=10, help="minutes without a step after which all stacks are "
                                                                   "written to a file; 0 turns it off")

        add("--print_freq", type=positive, default=100, help="images between log lines")
        add("--display_freq", type=positive, default=400, help="images between pictures in the live views")
        add("--update_html_freq", type=positive, default=1000, help="images between pictures on the page")
        add("--display_samples", type=natural, default=4, help="images, of the validation if there is one, whose "
                                                               "translations are shown at every save")
        add("--no_html", action="store_true", help="no page of pictures and curves")
        add("--display_id", type=int, default=1, help="window of the live visdom view; 0 turns it off")
        add("--display_server", default="http://localhost", help="visdom server")
        add("--display_port", type=natural, default=8097, help="visdom port")
        add("--display_env", default="main", help="visdom environment")
        add("--display_ncols", type=int, default=4, help="visdom: pictures per row; 0 opens one window each")
        add("--use_tensorboard", action="store_true", help="log for TensorBoard into the run's folder (extra: "
                                                           "tensorboard)")

    def from_record(self, first: argparse.Namespace, record: dict, plugin_options: set[str] | None) -> dict[str, Any]:
        if not first.continue_train:
            return {}
        if not record and first.dataroot is None:
            raise UsageError(f"--continue_train: no recorded run called '{first.name}' in {first.checkpoints_dir}; is "
                             f"--name right? Runs of other tools need their whole command line")
        trained = record.get("options", {}).get("direction", first.direction)
        if plugin_options is not None and first.direction != trained:
            raise UsageError(f"run {first.name} was trained {trained} and resumes only so; to start a new run from it: "
                             f"--init_from {first.name} --direction {first.direction} --name OTHER")
        left_out = NOT_ON_RESUME | (FAST.keys() if first.plain else set())
        return {key: value for key, value in record.get("options", {}).items() if key not in left_out}

    def settle(self, opt: argparse.Namespace) -> None:
        super().settle(opt)
        for extra in ("wandb", "tensorboard"):
            if getattr(opt, f"use_{extra}") and importlib.util.find_spec(extra) is None:
                raise UsageError(f'--use_{extra} needs an extra: pip install -e ".[{extra}]"')
        find_metrics([name for name in (*opt.metrics, opt.best_metric.split("/")[-1]) if name != "auto"])
        if opt.patience and not (opt.val_freq and opt.metrics):
            off, on = ("--metrics ''", "--metrics auto") if opt.val_freq else ("--val_freq 0", "--val_freq 5")
            raise UsageError(f"--patience counts validations, and {off} turns them off; use {on}")
        if opt.crops > 1 and "crop" not in opt.preprocess:
            raise UsageError(f"--crops {opt.crops} takes random crops, and --preprocess {opt.preprocess} does not "
                             f"crop; use --preprocess crop")
        if not opt.reconstruction:
            raise UsageError(f"--reconstruction is empty; it takes {', '.join(DISTANCES)}")
        for word in opt.reconstruction:
            parse(word)
        if opt.masks and (others := {parse(word)[0] for word in opt.reconstruction} - {"l1", "l2"}):
            raise UsageError(f"--masks needs a distance of single pixels, l1 or l2, not --reconstruction "
                             f"{', '.join(sorted(others))}")
        for name in opt.diffaugment:
            AUGMENTATIONS.constructor(name)
        if (opt.gan_mode == "began") != (opt.netD == "autoencoder"):
            raise UsageError("--gan_mode began and --netD autoencoder go together: one balances the energies that the "
                             "other computes")
        if opt.gan_mode in ("wgangp", "began") and (opt.r1 or opt.gp):
            raise UsageError(f"--r1 and --gp are of no use with --gan_mode {opt.gan_mode}, which keeps the "
                             f"discriminator in bounds itself")
        if opt.gan_mode == "wgan" and not (hasattr(opt, "clip") or opt.spectral_norm or opt.r1 or opt.gp):
            raise UsageError("--gan_mode wgan needs a discriminator kept in bounds: --gan_mode wgangp does so by a "
                             "penalty; or add --spectral_norm or --gp 10 (--model dualgan clips its weights)")
        if opt.init_from == "":
            raise UsageError("--init_from is empty; give a run, a folder or a .pth file")
        if opt.continue_train and opt.init_from:
            raise UsageError("--init_from starts a new run and --continue_train resumes one; give only one of them")
        last = opt.n_epochs + opt.n_epochs_decay
        if opt.epoch_count > last:
            raise UsageError(f"--epoch_count {opt.epoch_count} is after the last epoch, {last} (--n_epochs "
                             f"{opt.n_epochs} + --n_epochs_decay {opt.n_epochs_decay}): nothing would be trained")

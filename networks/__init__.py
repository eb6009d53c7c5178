"""Tensors in, tensors out: the networks and losses that models share. Importing this registers all of them."""

from networks import patchgan, resnet, unet
from networks.define import DISCRIMINATORS, GENERATORS, define_D, define_G
from networks.layers import NORMS, together
from networks.losses import OBJECTIVES, GANLoss, cal_gradient_penalty

__all__ = ["DISCRIMINATORS", "GENERATORS", "NORMS", "OBJECTIVES", "GANLoss", "cal_gradient_penalty", "define_D",
           "define_G", "patchgan", "resnet", "together", "unet"]

"""Tensors in, tensors out: the networks and losses that models share. Importing this registers all of them."""

from networks import (
    adm,
    attributes,
    dcgan,
    deviation,
    latent,
    patchgan,
    pix2pixhd,
    resnet,
    santa,
    spade,
    super_resolution,
    unet,
    vit_unet,
)
from networks.augment import AUGMENTATIONS
from networks.define import DISCRIMINATORS, GENERATORS, define_D, define_G
from networks.distances import DISTANCES, Distance
from networks.layers import NORMS, together
from networks.losses import OBJECTIVES, GANLoss, cal_gradient_penalty

__all__ = ["AUGMENTATIONS", "DISCRIMINATORS", "DISTANCES", "GENERATORS", "NORMS", "OBJECTIVES", "Distance", "GANLoss",
           "adm", "attributes", "cal_gradient_penalty", "dcgan", "define_D", "define_G", "deviation", "latent",
           "patchgan", "pix2pixhd", "resnet", "santa", "spade", "super_resolution", "together", "unet", "vit_unet"]

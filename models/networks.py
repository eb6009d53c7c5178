"""`from . import networks`, as plugins of the reference write it."""

from torch.nn import Identity

from models.engine.schedule import get_scheduler
from networks import GANLoss, cal_gradient_penalty, define_D, define_G
from networks.layers import get_norm_layer, init_net, init_weights
from networks.patchgan import NLayerDiscriminator, PixelDiscriminator
from networks.resnet import ResnetBlock, ResnetGenerator
from networks.unet import UnetGenerator, UnetSkipConnectionBlock

__all__ = ["GANLoss", "Identity", "NLayerDiscriminator", "PixelDiscriminator", "ResnetBlock", "ResnetGenerator",
           "UnetGenerator", "UnetSkipConnectionBlock", "cal_gradient_penalty", "define_D", "define_G", "get_norm_layer",
           "get_scheduler", "init_net", "init_weights"]

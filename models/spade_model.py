"""SPADE: images from label maps (Park et al. 2019)."""

from argparse import ArgumentParser

from models.pix2pix_model import Pix2PixModel


class SpadeModel(Pix2PixModel):
    """pix2pix with a generator that sees the label map (--label_nc) in each norm, and with the losses of pix2pixHD.

    Loss of G: adversarial + lambda_feature times feature matching; --lambda_L1 10 --reconstruction vgg adds theirs of
    VGG19's features. D learns four times as fast as G.
    """

    needs, capturable = "pairs", True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        Pix2PixModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(netG="spade", init_type="xavier", no_dropout=True)
        if is_train:
            parser.set_defaults(netD="multiscale", gan_mode="hinge", spectral_norm=True, lambda_feature=10.0,
                                lambda_L1=0.0, lr=0.0001, lr_D=0.0004, beta1=0.0, beta2=0.9)
        return parser

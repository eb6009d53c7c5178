"""DiscoGAN: cross-domain relations without pairs (Kim et al. 2017)."""

from argparse import ArgumentParser

from models.cycle_gan_model import CycleGANModel


class DiscoGANModel(CycleGANModel):
    """Two plain encoder-decoders G_A and G_B, each the other's inverse; discriminators are fooled and matched.

    Loss: cross entropy against D_A and D_B, the distance of the mean features of real and generated images in them
    (--lambda_feature), and the squared reconstruction errors (equations 4 to 9). No identity loss, no image history.
    """

    needs, capturable = "B", True

    @staticmethod
    def modify_commandline_options(parser: ArgumentParser, is_train: bool) -> ArgumentParser:
        CycleGANModel.modify_commandline_options(parser, is_train)
        parser.set_defaults(netG="dcgan", netD="dcgan", norm="batch", crop_size=64)
        if is_train:
            parser.set_defaults(gan_mode="vanilla", pool_size=0, lambda_A=10.0, lambda_B=10.0, lambda_identity=0.0,
                                lambda_feature=9.0, reconstruction=["l2"], batch_size=16, load_size=64)
        return parser

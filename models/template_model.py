"""The smallest model, to copy (docs/model_plugin.md): regression of B on A with an L1 loss, no discriminator."""

import torch.nn.functional as F

from models.base_model import BaseModel


class TemplateModel(BaseModel):
    """Regression of B on A: minimises lambda_regression * |G(A) - B|."""

    needs, capturable = "pairs", True

    @staticmethod
    def modify_commandline_options(parser, is_train):
        parser.set_defaults(dataset_mode="aligned")
        if is_train:
            parser.add_argument("--lambda_regression", type=float, default=1.0, help="weight of the regression loss")
        return parser

    def __init__(self, opt):
        super().__init__(opt)
        self.visual_names = ["real_A", "fake_B", "real_B"]
        self.netG = self.make_G(opt.input_nc, opt.output_nc)
        if self.isTrain:
            self.adam("G", self.netG)

    def forward(self):
        self.fake_B = self.netG(self.real_A)

    def optimize_parameters(self):
        self.forward()
        self.minimize("G", self.record(G=self.opt.lambda_regression * F.l1_loss(self.fake_B, self.real_B)))

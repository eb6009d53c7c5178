"""The generator of UVCGAN v2 (Torbunov et al. 2023): a U-Net whose decoder a vision transformer modulates."""

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from networks.define import GENERATORS
from networks.layers import AnySize


@GENERATORS.register("vit_unet", n_blocks=12)
@GENERATORS.register_family(r"vit_unet_(\d+)blocks", lambda n: {"n_blocks": n})
class VitUnetGenerator(AnySize):
    """(N, input_nc, H, W) -> (N, output_nc, H, W) in [-1, 1].

    part                     channels            size
    `stem`                   ngf                 H
    `down`, four levels      1, 2, 4, 8 ngf      H, H/2, H/4, H/8
    `vit`, n_blocks          8 ngf               H/16, one token per position, and one for the style
    `up`, four levels        8, 4, 2, 1 ngf      H/8 ... H
    """

    def __init__(
        self,
        input_nc: int,
        output_nc: int,
        ngf: int = 64,
        norm_layer: Callable | None = None,           # passed to every generator; there is no norm of images here
        use_dropout: bool = False,                    # passed to every generator; unused
        n_blocks: int = 12,                           # of the transformer
    ):
        super().__init__(16, smallest=16)
        self.initialised = True
        widths = [ngf, 2 * ngf, 4 * ngf, 8 * ngf]
        self.stem = nn.Sequential(nn.Conv2d(input_nc, ngf, 3, 1, 1), nn.LeakyReLU(0.2))
        self.down = nn.ModuleList(Down(before, after) for before, after in pairwise([*widths, widths[-1]]))
        self.vit = PixelTransformer(widths[-1], n_blocks)
        self.up = nn.ModuleList(Up(before, after, widths[-1])
                                for before, after in pairwise([widths[-1], *widths[::-1]]))
        self.head = nn.Sequential(nn.Conv2d(ngf, output_nc, 1), nn.Tanh())
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):           # without norms, small weights would leave nothing of the image
                nn.init.kaiming_normal_(layer.weight, 0.2)

    def translate(self, x: Tensor) -> Tensor:         # (N, input_nc, H, W)
        x = self.stem(x)                              # (N, ngf, H, W)
        skips: list[Tensor] = []
        for down in self.down:
            skip, x = down(x)                         # (N, C, h, w), (N, C', h/2, w/2)
            skips.append(skip)
        x, style = self.vit(x)                        # (N, 8 ngf, H/16, W/16), (N, 8 ngf)
        for up in self.up:
            x = up(x, skips.pop(), style)
        return self.head(x)                           # (N, output_nc, H, W)


class Down(nn.Module):
    """Two convolutions without a norm, and half the size: (N, C, H, W) -> (N, C, H, W), (N, C', H/2, W/2)."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(before, before, 3, 1, 1), nn.LeakyReLU(0.2),
                                   nn.Conv2d(before, before, 3, 1, 1), nn.LeakyReLU(0.2))
        self.shrink = nn.Conv2d(before, after, 2, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        skip = self.block(x)
        return skip, self.shrink(skip)


class Up(nn.Module):
    """Twice the size, joined with the skip, and two modulated convolutions: (N, C, H, W) -> (N, C', 2 H, 2 W)."""

    def __init__(self, before: int, after: int, style: int):
        super().__init__()
        self.grow = nn.Conv2d(before, after, 3, 1, 1)
        self.join = ModulatedConv2d(2 * after, after, style)
        self.refine = ModulatedConv2d(after, after, style)

    def forward(self, x: Tensor, skip: Tensor, style: Tensor) -> Tensor:
        x = self.grow(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = F.leaky_relu(self.join(torch.cat((x, skip), 1), style), 0.2)
        return F.leaky_relu(self.refine(x, style), 0.2)


class ModulatedConv2d(nn.Module):
    """A 3x3 convolution whose input channels a style scales, and whose output is divided by the length of the weights.

    StyleGAN2's demodulation (Karras et al. 2020, equation 3), applied to activations. The scale is 1 + strength W s,
    and strength starts at 0.
    """

    def __init__(self, before: int, after: int, style: int):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, 1, 1)
        self.to_scale = nn.Linear(style, before)
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:  # (N, C, H, W), (N, style)
        scale = 1 + self.strength * self.to_scale(style)                      # (N, C)
        weight, bias = self.conv.weight, self.conv.bias
        length = (scale.square() @ weight.square().sum((2, 3)).t() + 1e-8).rsqrt()  # (N, C')
        x = F.conv2d(x * scale[:, :, None, None], weight, None, padding=1) * length.to(x.dtype)[:, :, None, None]
        return x if bias is None else x + bias[:, None, None]                 # (N, C', H, W)


class PixelTransformer(nn.Module):
    """(N, C, H, W) -> (N, C, H, W) and the style (N, C): self-attention over all positions and one learned token."""

    def __init__(self, width: int, n_blocks: int):
        super().__init__()
        self.position = nn.Linear(2, width)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.ModuleList(TransformerBlock(width) for _ in range(n_blocks))
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n, width, height, breadth = x.shape
        y = torch.arange(height, device=x.device, dtype=x.dtype) / height * 2 - 1
        across = torch.arange(breadth, device=x.device, dtype=x.dtype) / breadth * 2 - 1
        places = torch.stack((y[:, None].expand(height, breadth), across[None].expand(height, breadth)), 2)
        tokens = x.flatten(2).transpose(1, 2) + torch.sin(self.position(places)).flatten(0, 1)  # (N, H*W, C)
        tokens = torch.cat((tokens, self.token.to(tokens.dtype).expand(n, 1, width)), 1)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.project(tokens)
        pixels = tokens[:, :-1].transpose(1, 2).reshape(n, width, height, breadth)
        return pixels, tokens[:, -1]


class TransformerBlock(nn.Module):
    """Attention and a perceptron, each behind a layer norm and scaled from 0 on (ReZero, Bachlechner et al. 2020)."""

    def __init__(self, width: int):
        super().__init__()
        self.heads = next(n for n in range(max(1, width // 64), 0, -1) if width % n == 0)
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.gates = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> Tensor:           # (N, tokens, C)
        n, count, width = x.shape
        qkv = self.qkv(self.norm_attention(x)).view(n, count, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)                        # (N, heads, tokens, C / heads)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, count, width)
        x = x + self.gates[0] * self.out(seen)
        return x + self.gates[1] * self.mlp(self.norm_mlp(x))

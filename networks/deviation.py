"""A PatchGAN that sees how much images differ (Karras et al. 2018; with past images, Torbunov et al. 2023)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from networks.define import DISCRIMINATORS
from networks.layers import check_size
from networks.patchgan import NLayerDiscriminator, activations

REMEMBERED = 3  # images, of each kind


@DISCRIMINATORS.register("deviation")
class DeviationDiscriminator(nn.Module):
    """(N, input_nc, H, W) -> (N, 1, H // 8 - 2, W // 8 - 2): a PatchGAN's body, and a head that also gets a deviation.

    That is the standard deviation of the body's features over this image and the last ones of its kind, real or
    generated, averaged over channels and positions. A batch with `learning` is remembered.
    """

    remembers = ("real", "fake")
    any_size = ("past_real", "past_fake")  # keys whose shape is that of the last images

    def __init__(self, input_nc: int, ndf: int = 64, n_layers: int = 3, norm_layer: Callable = nn.BatchNorm2d):
        super().__init__()
        self.min_size = 3 * 2 ** n_layers
        width = ndf * min(2 ** n_layers, 8)
        self.body = nn.Sequential(*list(NLayerDiscriminator(input_nc, ndf, n_layers, norm_layer).model)[:-1])
        self.head = nn.Sequential(nn.Conv2d(width + 1, width, 3, 1, 1), nn.LeakyReLU(0.2, True),
                                  nn.Conv2d(width, 1, 3, 1, 1))  # no norm, which could remove what is constant
        for kind in self.remembers:
            self.register_buffer(f"past_{kind}", torch.empty(0))

    def forward(self, x: Tensor, features: bool = False, past: str = "", learning: bool = False):
        check_size(self, width=x.shape[3], height=x.shape[2])
        inner = activations(self.body, x)[:-1]
        exact = inner[-1].to(torch.promote_types(inner[-1].dtype, torch.float32))
        seen = self.with_past(exact, past, learning)                          # (N, M, C, H, W)
        deviation = (seen.var(1, correction=0) + 1e-8).sqrt().mean((1, 2, 3), keepdim=True).to(inner[-1].dtype)
        x = torch.cat((inner[-1], deviation.expand(-1, 1, *inner[-1].shape[2:])), 1)
        return [[*inner, *activations(self.head, x)]] if features else self.head(x)

    def with_past(self, x: Tensor, kind: str, learning: bool) -> Tensor:
        """Each image with the remembered ones of this kind, or with the rest of its batch: (N, M, C, H, W)."""
        if not kind:
            return x[None].expand(len(x), *x.shape)
        past: Any = getattr(self, f"past_{kind}")
        if past.shape[1:] != x.shape[1:]:              # the first images, or another size
            past = x.detach()[:1].expand(REMEMBERED, *x.shape[1:]).clone()
            setattr(self, f"past_{kind}", past)
        seen = torch.cat((x[:, None], past.clone().expand(len(x), *past.shape)), 1)
        if learning:
            with torch.no_grad():
                latest = torch.cat((x.detach(), past))[:REMEMBERED]
                past.copy_(torch.where(latest.isfinite().all(), latest, past))
        return seen

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Take remembered images of any size."""
        for kind in self.remembers:
            if (saved := state.get(f"{prefix}past_{kind}")) is not None:
                setattr(self, f"past_{kind}", saved.to(getattr(self, f"past_{kind}").device).clone())
        super()._load_from_state_dict(state, prefix, *rest)

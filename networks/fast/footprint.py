"""How much memory training a network takes, found without any."""

import copy

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

STATES = 4  # of a parameter in training with Adam: itself, its gradient, two moments


def state_bytes(net: nn.Module) -> int:
    """Bytes of the weights, their gradients and what Adam keeps of them."""
    return STATES * sum(p.numel() * p.element_size() for p in net.parameters())


def activation_bytes(net: nn.Module, shape: tuple[int, int, int, int]) -> int:
    """Bytes of what a forward pass in float32 keeps for the backward pass, for an input (N, C, H, W).

    Nothing is computed: the pass runs on shapes alone.
    """
    net = copy.deepcopy(net)  # which may remember something of what it sees
    weights = {name: value.detach().to("meta").requires_grad_(value.requires_grad)
               for name, value in (*net.named_parameters(), *net.named_buffers())}
    own = {value.untyped_storage()._cdata for value in weights.values()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        out = torch.func.functional_call(net, weights, (torch.empty(shape, device="meta"),))
    del out
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())

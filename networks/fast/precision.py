"""How precisely networks compute."""

import functools

import torch

from networks.fast.products import multiply
from util.device import cpu_seconds
from util.errors import UsageError

AMP = ("auto", "off", "bf16", "fp16")


def pick_precision(amp: str, device: torch.device) -> torch.dtype | None:
    """What --amp means on a device: the type that networks compute in, None for float32.

    `auto` is bf16 where the hardware multiplies it: CUDA from Ampere, CPUs with AMX or AVX512-BF16, if those are
    quicker in it. Raises UsageError for fp16 elsewhere than on CUDA.
    """
    if amp == "fp16" and device.type != "cuda":
        raise UsageError(f"--amp fp16 is for CUDA; use --amp bf16, or auto, with --device {device.type}")
    if amp == "auto":
        amp = "bf16" if _multiplies_bf16(device) else "off"
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and any(
        getattr(torch.cpu, f"_is_{unit}_supported", lambda: False)() for unit in ("amx_tile", "avx512_bf16")
    ) and _bf16_is_quicker()


@functools.cache
def _bf16_is_quicker() -> bool:
    """Whether the CPU is, at a matrix product, which takes 30 ms to find out.

    With AMX it is six times as quick; with AVX512-BF16 alone twice on AMD's, half on Intel's.
    """
    x, rounded = torch.ones(512, 512), torch.ones(512, 512, dtype=torch.bfloat16)
    in_float32, in_bf16 = cpu_seconds(lambda: multiply(x, x), lambda: multiply(rounded, rounded))
    return in_bf16 < in_float32

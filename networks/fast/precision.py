"""How precisely networks compute."""

import time
from collections.abc import Callable
from typing import Any

import torch

from util.errors import UsageError

AMP = ("auto", "off", "bf16", "fp16")
MARGIN = 1.2  # how much quicker bf16 must be, so that two measurements agree


def pick_amp(amp: str, device: torch.device) -> str:
    """`off`, `bf16` or `fp16` for an --amp on a device.

    `auto` is bf16 on hardware that multiplies it, CUDA from Ampere and CPUs with AMX or AVX512-BF16, if it is quicker
    there. Raises UsageError for fp16 on anything but CUDA.
    """
    if amp == "fp16" and device.type != "cuda":
        raise UsageError(f"--amp fp16 is for CUDA; use --amp bf16, or auto, with --device {device.type}")
    return ("bf16" if _multiplies_bf16(device) else "off") if amp == "auto" else amp


def dtype_of(amp: str) -> torch.dtype | None:
    """The type of autocast, None for none."""
    return {"off": None, "bf16": torch.bfloat16, "fp16": torch.float16}[amp]


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and any(
        getattr(torch.cpu, f"_is_{unit}_supported", lambda: False)() for unit in ("amx_tile", "avx512_bf16")
    ) and _bf16_is_quicker()


def _bf16_is_quicker() -> bool:
    """Time a matrix product in both, for 30 ms.

    With AMX, bf16 is 6 x faster; with AVX512-BF16 only, 2 x faster on AMD and 2 x slower on Intel.
    """
    x, rounded = torch.ones(512, 512), torch.ones(512, 512, dtype=torch.bfloat16)
    in_float32, in_bf16 = cpu_seconds(lambda: x @ x, lambda: rounded @ rounded)
    return MARGIN * in_bf16 < in_float32


def cpu_seconds(*functions: Callable[[], Any]) -> list[float]:
    """The CPU time of each function on one core, the best of five turns; other load on the machine does not count."""
    least = [float("inf")] * len(functions)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(5):
            for i, function in enumerate(functions):
                start = time.thread_time()
                function()
                least[i] = min(least[i], time.thread_time() - start)
    finally:
        torch.set_num_threads(threads)
    return least

"""Randomness as a function of a few numbers or names."""

import hashlib
import random
from contextlib import contextmanager

import numpy as np
import torch


def derive(*parts) -> int:
    """A 32-bit seed from numbers and names; the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


@contextmanager
def seeded(seed: int):
    """Python, NumPy and torch (CPU) draw from `seed` inside the block and go on as before after it."""
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)

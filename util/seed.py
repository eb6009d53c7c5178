"""Randomness as a function of a few numbers or names."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def derive(*parts: object) -> int:
    """A 32-bit seed from numbers and names; the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode("utf-8", "surrogateescape"), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch, the last on all devices."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's generators, as plain values and tensors."""
    state: Any = np.random.get_state()
    name, keys, *rest = state
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"python": random.getstate(), "numpy": (name, keys.tolist(), *rest), "torch": torch.get_rng_state(),
            "cuda": cuda}


def restore_random_states(states: dict[str, Any]) -> None:
    """Go on drawing where `random_states` was taken; CUDA's only on as many devices as there were."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
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

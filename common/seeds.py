"""Every random stream of a run derives from (seed, purpose, site, round); DESIGN: reproducible."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_lock = threading.RLock()  # of PyTorch's own generator, while it is borrowed


def derive(seed: int, purpose: str, site: str = "", server_round: int = 0) -> int:
    """Return a 63-bit seed that depends on all four arguments and nothing else.

    Example:
        >>> derive(0, "batches", "north", 1) == derive(0, "batches", "north", 1) != derive(0, "batches", "south", 1)
        True
    """
    text = json.dumps([int(seed), purpose, site, int(server_round)])  # quotes: 'a/b', 'c' is not 'a', 'b/c'
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def numpy_generator(seed: int, purpose: str, site: str = "", server_round: int = 0) -> np.random.Generator:
    """Return NumPy's generator for one purpose (partitions, sampling, batches)."""
    return np.random.default_rng(derive(seed, purpose, site, server_round))


def torch_generator(seed: int, purpose: str, site: str = "", server_round: int = 0) -> torch.Generator:
    """Return a CPU torch generator for one purpose (initial weights, frames, augmentation)."""
    generator = torch.Generator()
    generator.manual_seed(derive(seed, purpose, site, server_round))
    return generator


@contextmanager
def borrowed_generator() -> Iterator[torch.Generator]:
    """Lend PyTorch's own CPU generator, from which its layers and torchvision draw; it is then as it was.

    Threads that borrow it wait for one another. Seed it first, by its `manual_seed`.
    """
    with _lock, torch.random.fork_rng(devices=[]):
        yield torch.default_generator

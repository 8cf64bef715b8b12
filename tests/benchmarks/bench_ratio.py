"""A ratio of two measurements of one process run, with its goal, as a row of one Markdown table."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch


@dataclass(frozen=True)
class Ratio:
    """One row.

    Attributes:
        part: of the benchmark, e.g. 'overhead'.
        what: is divided by what.
        device: 'cpu' or 'cuda'.
        value: the ratio.
        absolute: numerator and denominator with their unit, as text.
        goal: the largest value that will do; None where there is none.
    """

    part: str
    what: str
    device: str
    value: float
    absolute: str
    goal: float | None = None

    @property
    def key(self) -> str:
        """What names the row in the history."""
        return f"{self.part}: {self.what} ({self.device})"

    def line(self) -> str:
        """Return the row."""
        goal = "–" if self.goal is None else f"≤ {self.goal:g}"
        met = "–" if self.goal is None else "met" if self.value <= self.goal else "**not met**"
        return f"| {self.part} | {self.what} | {self.device} | {self.value:.3f} | {goal} | {met} | {self.absolute} |"


HEAD = (
    "| part | what, divided by what | device | ratio | goal | | absolute |\n|---|---|---|--:|---|---|---|"  # met or not
)


def paired(above: Sequence[float], below: Sequence[float]) -> float:
    """Return the median of ratios of times that were taken one right after the other."""
    return median(a / b for a, b in zip(above, below, strict=True))


def seconds(above: Iterable[float], below: Iterable[float]) -> str:
    """Return two medians as text."""
    return f"{median(above):.3f} s / {median(below):.3f} s"


def machine(device: str) -> str:
    """Return the class of machine whose metrics may be compared, e.g. 'cpu, 2 cores'."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{torch.cuda.get_device_name() if device == 'cuda' else 'cpu'}, {cores} cores"


def peak() -> float:
    """Return this process's own peak resident memory in MB (Linux).

    What getrusage tells of a child is at least what its parent had when it began.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024  # in kB

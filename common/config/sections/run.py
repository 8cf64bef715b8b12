"""Section `run`: where and with what a run is computed and kept."""

from pathlib import Path
from typing import Literal

from common.keys import KeyModel, NotNegative, Positive, key
from common.paths import default_dir


class RunSection(KeyModel):
    """Where and with what a run is computed and kept."""

    seed: int = key(0, ge=0, lt=2**128, about="every random stream derives from it", data="sites", everyday=True)
    checkpoint_every: Positive = key(1, about="rounds between checkpoints: what a crash can lose", resume="host")
    checkpoints_kept: int = key(3, ge=2, le=10**6, about="kept; an older one replaces a damaged one", resume="host")
    resume: bool = key(
        False,
        about="continue the run of this run-name from its last checkpoint, if any",
        resume="host",
        stays=True,
        everyday=True,
    )
    report_images: bool = key(
        False, about="the report shows test images: of patients, where the data are; it says so", resume="host"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = key(
        "auto", about="auto: cuda, else mps, else cpu", resume="host", everyday=True, machine=True
    )
    threads: NotNegative = key(
        1,
        le=1024,
        about="CPU threads a site; 0 = torch's choice. Equal threads give equal sums in every engine",
        resume="onward",
        machine=True,
    )
    output_dir: Path = key(
        factory=lambda: default_dir("FEDNC_RUNS", "fednc-runs"),
        about="parent of the run's folder",
        resume="host",
        stays=True,
        everyday=True,
    )
    run_name: str | None = key(
        None,
        pattern=r"^\w[\w.-]{0,119}$",
        about="default: name, method, seed, …",
        resume="host",
        stays=True,
        everyday=True,
    )

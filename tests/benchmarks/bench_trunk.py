"""What a trunk that stands still saves: a site's epoch from late stages of MobileNetV2 ÷ one through all its layers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from client_app.methods import load as load_method
from client_app.site.site import simulated_site
from client_app.training.loop import train_site
from common.config import Experiment
from common.models.model import build_model
from common.models.trunk_cache import use_trunk_cache
from tests.benchmarks.bench_ratio import Ratio, paired
from tests.benchmarks.bench_turns import Lap, Work, take_turns
from tests.benchmarks.bench_work import CLASSES, Sizes, experiment_of, write_noise

_BACKBONE = "torchvision:mobilenet_v2"
# what trains, from which stage on; goals are of the time with a cache ÷ the time of all layers, on a CPU
_STAGES = {"last four blocks": ("features.15", 1 / 5), "last block": ("features.18", 1 / 25), "heads": ("head", None)}


def trunk(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield a site's epoch from a stage on, with the cache and without, ÷ an epoch of all layers."""
    side, images = (32, sizes.images) if sizes.width else (128, 4 * sizes.images)
    data = write_noise(folder / "trunk.npz", images, CLASSES, side=side)
    keys: dict[str, Any] = {
        "data_dir": str(data), "sites": 1, "backbone": _BACKBONE, "width": None, "channels_last": True,
        "image_cache": str(folder / "cache"),
    }  # fmt: skip
    works = {"all": _epochs(experiment_of(sizes, folder, device, **keys))}
    for what, (stage, _) in _STAGES.items():
        works[what] = _epochs(experiment_of(sizes, folder, device, train_from=stage, **keys))
        without = experiment_of(sizes, folder, device, train_from=stage, trunk_cache=False, **keys)
        works[f"{what}, without the cache"] = _epochs(without)
    found = take_turns(works, min(3, sizes.laps))
    for what in list(works)[1:]:
        goal = _STAGES[what][1] if what in _STAGES and device == "cpu" else None
        speeds = " / ".join(f"{images / sorted(found[name])[len(found[name]) // 2]:.0f}" for name in (what, "all"))
        row = f"epoch of the {what} ÷ of all layers, MobileNetV2 at {side} px"
        yield Ratio("trunk", row, device, paired(found[what], found["all"]), f"{speeds} images a second", goal)


def _epochs(experiment: Experiment) -> Work:
    """Return a site's training of one epoch as work; its cache is filled before."""

    def work(lap: Lap) -> None:
        torch.set_num_threads(experiment.run.threads)
        site = simulated_site(experiment, 0)
        model = build_model(experiment, site.dataset.train.channels, CLASSES).to(experiment.run.device)
        use_trunk_cache(model, experiment)
        while True:
            lap()
            train_site(model, load_method(experiment.method), site, 1)

    return work

"""The device that a site trains on: of its own file, or the one that PyTorch finds."""

import torch

from client_app.site.config import SiteConfig
from common.config import Experiment
from common.errors import UserError
from common.models.model import pick_device


def site_device(experiment: Experiment, config: SiteConfig | None) -> torch.device:
    """Return the device of the site's file; where that says auto, and for a simulated site, the experiment's.

    Args:
        experiment: the run; from a coordinator of real sites it says auto.
        config: a real site's configuration; None for a simulated one.

    Raises:
        UserError: the device is not there, or a GPU does not answer.
    """
    if config is None:
        return pick_device(experiment.run.device)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device = 'cuda': PyTorch finds no GPU here; see `nvidia-smi`, restart the containers or the machine, "
            "or write `device: auto` into the site's file to train on the CPU"
        )
    wanted = experiment.run.device if config.device == "auto" else config.device
    device = pick_device(wanted)
    try:
        if device.type == "cuda":
            torch.cuda.mem_get_info()  # asks the card itself
    except RuntimeError as error:  # a driver that is too old, a card that fell off the bus
        raise UserError(f"device = '{wanted}': does not answer ({first_line(error)})") from None
    return device


def first_line(error: Exception) -> str:
    """Return the first line of a text of PyTorch's, which goes on about debugging."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

"""A cache of models: built once a process, then loaded in place from each message.

Building draws every weight anew, which of a ResNet-18 takes longer than averaging it. Where what arrived and what the
site kept cover every weight, none of those draws would be left, so the model of the message before will do.
"""

from collections import OrderedDict

import torch
from torch import Tensor

from common.config import Experiment
from common.models.model import Model, build_model, load_state
from common.wire import Arrays

_KEPT = 2  # models in a process, for two experiments that take turns
_FIXED = "frame"  # of the state, what comes with the key and never changes

_models: OrderedDict[tuple[Experiment, torch.device, int, int, str], Model] = OrderedDict()


def model_for(
    experiment: Experiment,
    device: torch.device,
    channels: int,
    num_classes: int,
    frame: Tensor | None,
    frame_hash: str,
    site: str,
    broadcast: Arrays,
    kept: Arrays | None,
) -> Model:
    """Return the model with what arrived and what the site kept, on a device; the next call may take it.

    Args:
        experiment: the run.
        device: the site's.
        channels: of the images.
        num_classes: C.
        frame: fixed classifier [C, d], or None.
        frame_hash: its content hash, or ''.
        site: its name, from which a personal head starts where the site kept none.
        broadcast: θ, ψ and what else the coordinator sends.
        kept: the personal parts, None where the site has none yet.
    """
    key = (experiment, device, channels, num_classes, frame_hash)
    states = broadcast | (kept or {})
    model = _models.pop(key, None)
    if model is None or model.state_dict().keys() - {_FIXED} - states.keys():
        model = build_model(experiment, channels, num_classes, frame, site=site).to(device)
    model.train()
    for parameter in model.parameters():
        parameter.grad = None
    load_state(model, states)
    _models[key] = model
    while len(_models) > _KEPT:
        _models.popitem(last=False)
    return model


def clear_models() -> None:
    """Let go of all models that the process keeps."""
    _models.clear()

"""How much of the machine a worker of Flower's simulation claims, which decides how many sites train side by side."""

import os
from math import floor

import torch

from common.config import Experiment
from common.data import Dataset, build_federation
from common.data.images.resident import resident_bytes
from common.models.features import EVAL_BATCH
from common.models.memory import output_bytes
from common.models.model import build_model, feature_dim, frame_kind, pick_device

_CONTEXT = 1 << 30  # bytes of a process's CUDA context, with the libraries' workspaces
_MODELS = 10  # copies of the model: weights, gradients, momentum, the broadcast, a personal model, for two models
_SPARE = 0.8  # of the free memory: the allocator cuts it into blocks
_MOST = 8  # workers a GPU: more take turns on it, and each costs a context


def worker_resources(experiment: Experiment) -> tuple[int, float]:
    """Return the processors and the share of a GPU that a worker claims: one processor a thread, so none is fought for.

    On a GPU the workers share the processors and the memory that is free; images that fit stay there with each worker.
    Ray counts shares in ten-thousandths.

    Raises:
        UserError: the device is not there, or the data cannot be read.
    """
    there = os.cpu_count() or 1
    if pick_device(experiment.run.device).type != "cuda":
        return min(experiment.run.threads or there, there), 0.0
    gpus, free = torch.cuda.device_count(), torch.cuda.mem_get_info()[0]
    federation = build_federation(experiment)
    asked = max(1, round(experiment.rounds.participation * (len(federation.site_names) or experiment.sites.sites)))
    side_by_side = min(asked, there // (experiment.run.threads or 1)) // gpus
    fitting = int(_SPARE * free / gpu_bytes(experiment, federation.dataset)) - 1  # the coordinator needs a part too
    workers = max(1, min(side_by_side, fitting, _MOST))
    return max(1, min(experiment.run.threads or there // (workers * gpus), there)), floor(1e4 / workers) / 1e4


def gpu_bytes(experiment: Experiment, dataset: Dataset) -> int:
    """Return what a worker needs of a GPU's memory, on the safe side: context, images, models and activations."""
    shape = dataset.train.channels, len(dataset.classes)
    model = build_model(experiment, *shape)
    if frame_kind(experiment):  # whose length is the backbone's
        model = build_model(experiment, *shape, torch.zeros(shape[1], feature_dim(model.backbone)))
    weights = sum(value.nbytes for value in model.state_dict().values())
    outputs = output_bytes(model.backbone, (dataset.train.channels, *dataset.train.size))
    pixels = resident_bytes(dataset.train) + resident_bytes(dataset.test)
    # a step keeps every layer's output and its gradient; evaluation has two layers at a time, taken as an eighth of all
    activations = sum(size for _, size in outputs) * max(2 * experiment.train.batch_size, EVAL_BATCH // 8)
    return int(_CONTEXT + pixels + _MODELS * weights + activations)

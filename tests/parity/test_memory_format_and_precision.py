"""`channels-last` and `precision` against the plain run: metrics within rounding, single precision outside θ.

Tolerances follow from the formats. Sums in another order differ by 1e-7 at each layer and by more after some steps:
losses agree to 1e-3. bfloat16 has 8 bits: a step of rounding is 0.4 % in each of about 20 layers, which add up like
noise to less than 2 %; float16's 11 bits, to an eighth of that. Training amplifies that as it does any other noise, by
as much as the data say; so losses in both are compared along steps too small to matter, and steps by their direction.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from safetensors.numpy import load_file

import client_app.training.loop as training
import client_app.training.model_cache as models
from common.config import Experiment
from common.packing import unpacked
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.generic import beginning
from server_app.grids.local_grid import LocalGrid
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
OPTIONS: dict[str, tuple[dict[str, Any], float]] = {
    "channels_last": ({"channels_last": True}, 1e-3),
    "bf16": ({"precision": "bf16"}, 0.02),
    "fp16": ({"precision": "fp16"}, 0.005),
    "both": ({"channels_last": True, "precision": "bf16"}, 0.02),
}
BACKBONES = {"cnn": {"width": 8}, "resnet18": {"width": 8, "sites": 2, "head_class_size": 15}}


class Replies(LocalGrid):
    """The in-process engine, which notes the types of the model's arrays that return."""

    def __init__(self, sites: int) -> None:
        super().__init__(load_client_app(), sites)
        self.dtypes: set[str] = set()

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        for reply in super().send_and_receive(messages, timeout=timeout):
            for name, record in reply.content.array_records.items():
                if name == "class-metrics":  # shares of test images, computed in float64 as all metrics are
                    continue
                self.dtypes |= {str(unpacked(array).dtype) for array in record.values()}
            yield reply


def losses(experiment: Experiment) -> tuple[dict[str, float], set[str]]:
    """Run an experiment and return the last round's losses, and the types of all arrays that returned."""
    grid = Replies(experiment.sites.sites)
    folder = run(grid, experiment)
    return [event for event in read_events(folder) if event["event"] == "round"][-1]["loss"], grid.dtypes


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_tuned_run_is_the_plain_one_within_rounding(tiny: Tiny, backbone: str, option: str) -> None:
    changes, tolerance = OPTIONS[option]
    base = {"method": "fedloge", "backbone": backbone, "rounds": 1, **BACKBONES[backbone]}
    if "precision" in changes:
        base["learning_rate"] = 1e-6
    plain, _ = losses(tiny(**base, run_name="plain"))
    tuned, dtypes = losses(tiny(**base, **changes, run_name=option))
    assert tuned.keys() == plain.keys() == {"backbone", "aux_head", "personal_head"}
    for name, value in plain.items():
        np.testing.assert_allclose(tuned[name], value, rtol=tolerance, err_msg=name)
    assert dtypes <= {"float32", "int64"}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_steps_in_half_precision_go_where_the_plain_ones_go(tiny: Tiny, precision: str) -> None:
    """Each layer's gradient has the noise above twice, forward and backward: less than 4 %, a cosine over 0.99."""

    def trained(name: str, **changes: Any) -> np.ndarray:
        folder = run(LocalGrid(load_client_app(), 3), tiny(method="fedloge", rounds=1, run_name=name, **changes))
        arrays = load_file(folder / "generic.safetensors")
        kept = sorted(k for k in arrays if k.startswith("backbone.") and k.endswith((".weight", ".bias")))
        return np.concatenate([arrays[k].ravel().astype(np.float64) for k in kept])

    start = trained("start", learning_rate=1e-30)
    plain, tuned = (
        trained("plain", learning_rate=1e-3) - start,
        trained("half", learning_rate=1e-3, precision=precision),
    )
    tuned -= start
    assert plain @ tuned > 0.99 * np.linalg.norm(plain) * np.linalg.norm(tuned) > 0


def test_heads_and_losses_stay_in_single_precision(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """What enters a head, and each loss, are float32, where θ computes in bfloat16."""
    seen: dict[str, set[torch.dtype]] = {"inside": set(), "heads": set(), "losses": set()}
    real_build, real_add = models.build_model, training._accumulate_losses

    def build(*args: Any, **more: Any) -> Any:
        model = real_build(*args, **more)
        for head in (model.aux_head, model.personal_head):
            assert head is not None
            head.register_forward_pre_hook(lambda module, inputs: seen["heads"].add(inputs[0].dtype))
        layers = [m for m in model.backbone.modules() if isinstance(m, torch.nn.Conv2d)]
        layers[-1].register_forward_hook(lambda module, inputs, output: seen["inside"].add(output.dtype))
        return model

    def add_up(noted: list[Any], *args: Any) -> None:
        seen["losses"] |= {values.dtype for _, values, _ in noted}
        real_add(noted, *args)

    monkeypatch.setattr(models, "build_model", build)
    monkeypatch.setattr(training, "_accumulate_losses", add_up)
    models.clear_models()
    run(LocalGrid(load_client_app(), 3), tiny(method="fedloge", precision="bf16", rounds=1))
    models.clear_models()
    assert seen["inside"] == {torch.bfloat16}
    assert seen["heads"] == seen["losses"] == {torch.float32}


def test_a_cpu_says_that_fp16_is_slow(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(beginning.log, "warning", said.append)
    for precision, device in (("fp16", "cpu"), ("fp16", "cuda"), ("bf16", "cpu")):
        beginning.warn_of_slow_precision(tiny(precision=precision), torch.device(device))
    assert said == ["precision = fp16: on a CPU right, but about ten times slower than fp32; bf16 is faster on both"]

"""A site's device: its own file decides, `fednc-site check` describes it, and training names it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from flwr.app import Context, RecordDict

from client_app.preflight import machine
from client_app.preflight.checks import check_site
from client_app.site.config import SiteConfig
from client_app.site.device import site_device
from client_app.site.site import find_site
from common.config import Experiment
from common.errors import UserError
from common.methods import METHODS

Write = Callable[..., Path]
Site = Callable[..., SiteConfig]
Deployed = Callable[..., Experiment]
HEADER, ROWS = "image,split,label", ["a.png,train,cat", "b.png,train,dog", "c.png,train,fox", "d.png,test,cat"]
NO_GPU = "device = 'cuda': PyTorch finds no GPU here; see `nvidia-smi`, restart the containers or the machine, or write"


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda: (2**30, 3 * 2**30))
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "A card")


@pytest.fixture
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


@pytest.mark.usefixtures("card")
def test_the_sites_file_decides_on_the_device(site: Site, deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = deployed(device="auto")
    assert site_device(asked, site()) == site_device(asked, site(device="cuda")) == torch.device("cuda")
    assert site_device(asked, site(device="cpu")) == torch.device("cpu")
    facts = machine.describe_device(site_device(asked, site()), site())
    assert (facts["name"], facts["gpu_gib"], facts["gpu_free_gib"]) == ("A card", 3.0, 1.0)

    def lost() -> None:
        raise RuntimeError("CUDA error: unknown error\nand ten more lines")

    monkeypatch.setattr("torch.cuda.mem_get_info", lost)
    for config in (site(), site(device="cuda")):
        with pytest.raises(UserError, match=r"device = '(auto|cuda)': does not answer \(CUDA error: unknown error\)$"):
            site_device(asked, config)


@pytest.mark.usefixtures("no_card")
def test_a_site_that_wants_a_gpu_takes_no_part_without_one(
    images: Write, site_file: Write, site: Site, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    images(HEADER, *ROWS)
    asked, path = deployed(device="auto"), str(site_file(device="cuda"))
    context = Context(0, 1, {"site-config": path}, RecordDict(), {})
    with pytest.raises(UserError, match=NO_GPU):
        find_site(asked, context)
    (problem,) = check_site(site(device="cuda"), asked).problems
    assert problem.kind == "device" and problem.reason.startswith(NO_GPU)
    (warning,) = [found for found in check_site(site(), asked).warnings if found.kind == "device"]
    assert "no GPU that PyTorch can use: this site trains on its CPU" in warning.reason
    findings = check_site(site(device="cpu"), asked)
    assert findings.facts["device"]["name"] == "cpu" and not [w for w in findings.warnings if w.kind == "device"]
    assert find_site(asked, Context(0, 1, {"site-config": str(site_file())}, RecordDict(), {})).name == "west"


def test_a_device_that_cannot_train_is_one_line(
    images: Write, site: Site, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: no device\nand ten more lines")

    images(HEADER, *ROWS)
    monkeypatch.setattr(machine, "train_site", broken)
    (problem,) = check_site(site(), deployed()).problems
    assert problem.reason == "one batch of 4 images cannot be trained (CUDA error: no device)"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_batch_of_every_method_is_timed(method: str, deployed: Deployed) -> None:
    assert machine.time_batch(deployed(method=method), 3, torch.device("cpu"))["seconds"] > 0


@pytest.mark.parametrize(("state", "words"), [(5, "nothing keeps this machine's clock right"), (0, ""), (-1, "")])
def test_a_clock_that_nothing_keeps_is_doubted(state: int, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        def __init__(self, _: None) -> None: ...
        def adjtimex(self, _: object) -> int:
            return state

    monkeypatch.setattr("ctypes.CDLL", Kernel)
    assert machine.clock_warning().startswith(words) and bool(machine.clock_warning()) == bool(words)

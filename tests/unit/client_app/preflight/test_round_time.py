"""What `fednc-site check` says of a run with frozen stages: time, disk and traffic."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from client_app.preflight import round_time
from client_app.preflight.checks import check_site
from client_app.preflight.table import show
from client_app.site.config import SiteConfig
from client_app.site.data import load_site_data
from common.config import Experiment, build
from common.methods import METHODS
from server_app.engines.engines import run_local
from server_app.run.journal import read_events

Write = Callable[..., Path]
Site = Callable[..., SiteConfig]
Deployed = Callable[..., Experiment]
HEADER = "image,split,label"
HEADER_BYTES = 130  # NumPy's, of each array
ROWS = [f"{i:02}.png,{'train' if i < 8 else 'test'},{('cat', 'dog', 'fox')[i % 3]}" for i in range(12)]
LAST = {"train_from": "stage3"}  # what comes before makes of 8×8 pixels 2·4 channels of 2×2


@pytest.fixture
def expected(images: Write, site: Site, deployed: Deployed) -> Callable[..., dict[str, Any]]:
    """Return a function of an experiment's keys to what is expected of it at a site of 8 and 4 images."""
    images(HEADER, *ROWS)

    def facts(**changes: Any) -> dict[str, Any]:
        experiment, config = deployed(**(LAST | changes)), site(device="cpu")
        dataset = load_site_data(config, experiment)
        return round_time.expect_rounds(config, experiment, dataset, torch.device("cpu"))

    return facts


def test_a_check_says_what_a_run_with_frozen_stages_costs(images: Write, site: Site, deployed: Deployed) -> None:
    images(HEADER, *ROWS)
    findings = check_site(site(device="cpu"), deployed(**LAST))
    assert (findings.problems, findings.warnings) == ([], [])
    facts = findings.facts["rounds"]
    assert (facts["cached_images"], facts["cache_bytes"]) == (12, 12 * 8 * 2 * 2 * 4)
    assert facts["round_seconds"] >= 0 and facts["free_bytes"] > 0
    assert not site().trunks.exists()  # what was computed has random weights
    output = io.StringIO()
    show(findings, Console(file=output, width=200))
    for words in ("once, for 12 images", f"free, in {site().trunks}", "from the coordinator, the first", "a round"):
        assert words in output.getvalue()
    assert "rounds" not in check_site(site(device="cpu"), deployed()).facts


def test_a_disk_without_room_for_the_cache_is_a_warning(
    images: Write, site: Site, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(HEADER, *ROWS)
    monkeypatch.setattr(round_time, "free_bytes", lambda folder: 10)
    (warning,) = check_site(site(device="cpu"), deployed(**LAST)).warnings
    assert warning.kind == "disk" and "takes 0.0 MiB, of 0.0 MiB free: it will be kept in memory" in warning.reason


@pytest.mark.parametrize(
    ("keys", "kept", "size"),
    [
        ({"trunk_precision": "fp16"}, 12, 2),
        ({"trunk_cache": False}, 0, 0),
        ({"augment": "flip"}, 4, 4),  # training images are others in each epoch
        ({"mixup": 0.2}, 4, 4),
        ({"augment": "flip", "cached_views": 3}, 4 + 3 * 8, 4),
        ({"augment": "flip", "finetune_epochs": 1}, 12, 4),
    ],
)
def test_the_cache_is_as_large_as_what_is_kept(
    keys: dict[str, Any], kept: int, size: int, expected: Callable[..., dict[str, Any]]
) -> None:
    facts = expected(**keys)
    assert (facts["cached_images"], facts["cache_bytes"]) == (kept, kept * 8 * 2 * 2 * size)
    assert kept or facts["fill_seconds"] == 0


def test_times_grow_with_images_and_epochs(
    expected: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece of work takes two seconds: eight images in the trunk, an epoch of them, an evaluation of them."""

    def two_seconds(work: Callable[[], object]) -> float:
        work()
        return 2.0

    monkeypatch.setattr(round_time, "_timed", two_seconds)
    facts = expected(local_epochs=3)
    assert facts["fill_seconds"] == 12 * 2 / 8
    assert facts["round_seconds"] == 3 * 2 + 4 * 2 / 8


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_is_measured(method: str, expected: Callable[..., dict[str, Any]]) -> None:
    facts = expected(method=method)
    assert facts["first_bytes"] > facts["later_bytes"] > 0 and facts["reply_bytes"] > 0


@pytest.mark.parametrize("keys", [{}, {"wire": "half"}, {"method": "fedloge"}])
def test_messages_are_as_large_as_those_of_a_run(
    keys: dict[str, Any], expected: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """A simulation of the same model at two sites sends as much: what its messages weigh, the coordinator counts."""
    facts = expected(**keys)
    simulated: dict[str, Any] = {"dataset": "manifest", "data-dir": str(tmp_path / "data"), "image-size": 8}
    simulated |= {"partition": "iid", "sites": 2, "min-site-size": 1, "rounds": 2, "local-epochs": 1}
    simulated |= {"output-dir": str(tmp_path / "runs"), "image-cache": str(tmp_path / "cache"), "device": "cpu"}
    simulated |= {"method": "fedavg", "width": 4, "batch-size": 4, "train-from": "stage3"}
    folder = run_local(build(simulated | keys))
    first, second = [event for event in read_events(folder) if event["event"] == "round"]
    for sent, said in ((first["bytes_down"], "first"), (second["bytes_down"], "later"), (second["bytes_up"], "reply")):
        assert 0 < sent / 2 - facts[f"{said}_bytes"] < HEADER_BYTES * 30

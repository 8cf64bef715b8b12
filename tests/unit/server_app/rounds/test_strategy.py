from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from flwr.app import Message
from trained_runs import TrainedRuns

from common import wire
from common.config import Experiment
from common.errors import UserError
from server_app.app import run
from server_app.engines.engines import load_client_app
from server_app.grids.local_grid import LocalGrid
from server_app.rounds.round import Round
from server_app.rounds.strategy import FedStrategy
from server_app.run.journal import Journal, read_events
from server_app.run.resuming import run_folder
from server_app.sites.discovery import SiteFacts

Tiny = Callable[..., Experiment]


def strategy_of(experiment: Experiment, folder: Path, num_sites: int = 10) -> FedStrategy:
    # in an order that is not sorted: nodes come as they like
    sites = {f"site-{i:02}": SiteFacts(i + 1, 5, 5) for i in reversed(range(num_sites))}
    return FedStrategy(experiment, sites, Journal(folder, experiment), None, None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rate", "count"), [(1.0, 10), (0.3, 3), (0.25, 2), (0.01, 1)])
def test_sampling_takes_the_rate_of_the_sorted_sites(tiny: Tiny, tmp_path: Path, rate: float, count: int) -> None:
    strategy = strategy_of(tiny(participation=rate), tmp_path)
    sampled = strategy.sample(1)
    assert len(sampled) == len(set(sampled)) == count and sampled == sorted(sampled)


def test_sampling_depends_on_seed_and_round_alone(tiny: Tiny, tmp_path: Path) -> None:
    draws = [strategy_of(tiny(participation=0.3, seed=s), tmp_path).sample(r) for s in (0, 1) for r in (1, 2)]
    again = [strategy_of(tiny(participation=0.3, seed=s), tmp_path).sample(r) for s in (0, 1) for r in (1, 2)]
    assert draws == again
    assert len({tuple(d) for d in draws}) > 1


def test_every_site_is_sampled_about_equally_often(tiny: Tiny, tmp_path: Path) -> None:
    strategy = strategy_of(tiny(participation=0.3), tmp_path)
    seen = [name for r in range(1, 501) for name in strategy.sample(r)]
    counts = [seen.count(name) for name in strategy.sites]
    assert min(counts) > 110 and max(counts) < 190  # 150 expected, sd 10


def test_a_repeated_round_asks_others(tiny: Tiny, tmp_path: Path) -> None:
    strategy = strategy_of(tiny(participation=0.3), tmp_path)
    first = [strategy.sample(r) for r in range(1, 11)]
    strategy._retries.failed = [Round(1, [])]
    assert [strategy.sample(r) for r in range(1, 11)] != first
    strategy._retries.failed = []
    assert [strategy.sample(r) for r in range(1, 11)] == first


def test_the_runs_folder_has_a_speaking_name(tiny: Tiny) -> None:
    assert run_folder(tiny(run_name="mine")).name == "mine"
    first = run_folder(tiny(run_name=None, method="fedavg", seed=4))
    assert first.name.startswith("tiny-fedavg-seed4-20")
    first.mkdir(parents=True)
    assert run_folder(tiny(run_name=None, method="fedavg", seed=4)) != first


def test_a_taken_run_name_is_refused(tiny: Tiny) -> None:
    experiment = tiny(run_name="mine")
    (experiment.run.output_dir / "mine" / "sites").mkdir(parents=True)
    with pytest.raises(UserError, match=r"run-name = 'mine': .* holds a run"):
        run_folder(experiment)


class Watched(LocalGrid):
    """A grid that notes how long each message is good for."""

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterator[Message]:
        self.seen: dict[str, set[float | None]] = getattr(self, "seen", {})
        for message in messages:
            self.seen.setdefault(message.metadata.message_type, set()).update({message.metadata.ttl, timeout})
            yield from super().send_and_receive([message], timeout=timeout)


def test_every_message_is_good_until_the_rounds_deadline(tiny: Tiny) -> None:
    """Flower then answers for a site that says nothing, and a site does not begin what nobody waits for."""
    grid = Watched(load_client_app(), 2)
    run(grid, tiny(rounds=1, sites=2, round_timeout=777))
    assert grid.seen == {wire.HELLO: {777}, wire.TRAIN: {777}, wire.PERSONALISE: {777}}


def test_no_site_counts_for_more_images_than_allowed(trained: TrainedRuns) -> None:
    """A site may claim any number when the run begins."""
    weights = [
        next(event["weights"] for event in read_events(trained(rounds=1, **more)) if event["event"] == "round")
        for more in ({}, {"max_site_images": 40})
    ]
    assert max(weights[0].values()) > 40
    assert weights[1] == {name: min(40, images) for name, images in weights[0].items()}

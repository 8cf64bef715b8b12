from collections.abc import Callable
from pathlib import Path

import pytest

from common.config import Experiment
from common.wire import WireError
from server_app.engines import load_client_app
from server_app.journal import Journal
from server_app.local_grid import LocalGrid
from server_app.strategy import FedStrategy, SiteFacts, greet, run_folder

Tiny = Callable[..., Experiment]


def strategy_of(experiment: Experiment, folder: Path, num_sites: int = 10) -> FedStrategy:
    # in an order that is not sorted: nodes come as they like
    sites = {f"site-{i:02}": SiteFacts(i + 1, 5, 5) for i in reversed(range(num_sites))}
    return FedStrategy(experiment, sites, Journal(folder, experiment), None, evaluation=None)  # type: ignore[arg-type]


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


def test_greeting_names_every_site(tiny: Tiny) -> None:
    sites = greet(LocalGrid(load_client_app(), 3), tiny(), timeout=60)
    assert sorted(sites) == ["site-00", "site-01", "site-02"]
    assert all(facts.num_train > 0 and not facts.has_frame for facts in sites.values())


def test_a_node_beyond_the_federation_is_told_what_to_do(tiny: Tiny) -> None:
    with pytest.raises(WireError, match=r"sites 0 to 2.*num-supernodes=3"):
        greet(LocalGrid(load_client_app(), 4), tiny(), timeout=60)


def test_without_sites_there_is_no_run(tiny: Tiny) -> None:
    with pytest.raises(WireError, match="no site answered"):
        greet(LocalGrid(load_client_app(), 0), tiny(), timeout=60)


def test_the_runs_folder_has_a_speaking_name(tiny: Tiny) -> None:
    assert run_folder(tiny(run_name="mine")).name == "mine"
    assert run_folder(tiny(run_name=None, method="fedavg", seed=4)).name.startswith("tiny-fedavg-seed4-20")

from collections.abc import Callable
from pathlib import Path

import pytest

from common.config import Experiment
from common.errors import UserError
from server_app.journal import Journal, run_folder
from server_app.sites import SiteFacts
from server_app.strategy import FedStrategy

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


def test_the_runs_folder_has_a_speaking_name(tiny: Tiny) -> None:
    assert run_folder(tiny(run_name="mine")).name == "mine"
    first = run_folder(tiny(run_name=None, method="fedavg", seed=4))
    assert first.name.startswith("tiny-fedavg-seed4-20")
    first.mkdir(parents=True)
    assert run_folder(tiny(run_name=None, method="fedavg", seed=4)) != first


def test_a_taken_run_name_is_refused(tiny: Tiny) -> None:
    experiment = tiny(run_name="mine")
    (experiment.output_dir / "mine" / "sites").mkdir(parents=True)
    with pytest.raises(UserError, match=r"run-name = 'mine': .* holds a run"):
        run_folder(experiment)

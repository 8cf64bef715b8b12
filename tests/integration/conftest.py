"""The SuperLink that the tests here share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from real_processes import Deployment
from shared_superlink import alone, shared_superlink
from trained_runs import session_folder


@pytest.fixture(scope="session")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the home of the SuperLink that all tests share.

    With one of their own: `tests/faults/test_real_*.py`, where it is killed, or sites are that it then takes for
    alive; `test_compose.py`, in containers. `fednc run` in Flower's simulation starts one itself, which is tested.
    """
    return shared_superlink(session_folder(tmp_path_factory))


@pytest.fixture
def real(superlink: Path, tmp_path: Path) -> Iterator[Deployment]:
    """Yield a deployment at the shared SuperLink whose sites and runs are alone there."""
    with alone(superlink):
        deployed = Deployment(tmp_path, link=superlink)
        try:
            yield deployed
        finally:
            deployed.end()

import itertools
from collections.abc import Callable

import pytest

from common.config import Experiment, build
from common.methods import METHODS
from server_app.compare.runner import Cell
from server_app.compare.studies import STUDIES, STUDY_METHODS

Tiny = Callable[..., Experiment]


@pytest.mark.parametrize("name", STUDIES)
def test_every_variant_is_a_valid_experiment_of_its_own(tiny: Tiny, name: str) -> None:
    method = STUDY_METHODS.get(name, ("fedloge",))[0]
    base = tiny(sites=8, method=method, head_bias=METHODS[method].labels == "many").dump()
    cells = [Cell(build(base | dict(variant.overrides)), variant.label) for variant in STUDIES[name]]
    assert len({cell.stem for cell in cells}) == len(cells)
    assert len({str(cell.identity()) for cell in cells}) == len(cells)


def test_a_variants_file_name_is_plain(tiny: Tiny) -> None:
    assert Cell(tiny(), "frame-norm=0.05").stem == "fedloge-frame-norm-0.05-seed0"
    assert Cell(tiny(method="fedavg", seed=3)).stem == "fedavg-seed3"


def test_fednca_mls_ablation_has_every_combination() -> None:
    changes = {"attention": False, "frame-trains": True, "suppression-weight": 0.0, "clustering-weight": 0.0}
    found = [dict(variant.overrides) for variant in STUDIES["fednca_ml_grid"]]
    for chosen in itertools.product((False, True), repeat=len(changes)):
        assert dict(itertools.compress(changes.items(), chosen)) in found

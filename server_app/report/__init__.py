"""The report of a run: one HTML file that holds everything it shows and asks for nothing outside itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from common.errors import UserError
from common.files import write_text
from server_app.report.attention import attention, image_notice
from server_app.report.class_auc import auc_against_counts
from server_app.report.classes import per_class
from server_app.report.geometry import frame_geometry, head_norms
from server_app.report.headline import headline
from server_app.report.label_pairs import label_pairs
from server_app.report.multilabel_headline import multilabel_headline
from server_app.report.page import DASH, page, plain
from server_app.report.prototypes import class_features
from server_app.report.record import RunRecord, read_run
from server_app.report.rounds import accuracy_by_round, losses_by_round
from server_app.report.setup import setup
from server_app.report.sites import sites
from server_app.run.journal import log

_Sections: TypeAlias = Sequence[tuple[str, Callable[[RunRecord], str]]]

_SECTIONS: _Sections = (
    ("Results", headline),
    ("Accuracy by round", accuracy_by_round),
    ("Losses by round", losses_by_round),
    ("Accuracy by class", per_class),
    ("Frame geometry", frame_geometry),
    ("Head norms", head_norms),
    ("Sites", sites),
    ("Configuration and cost", setup),
)
_SEVERAL: _Sections = (  # labels an image
    ("Results", multilabel_headline),
    ("AUC by round", accuracy_by_round),
    ("Losses by round", losses_by_round),
    ("AUC by class", per_class),
    ("AUC against class counts", auc_against_counts),
    ("Class features", class_features),
    ("Where the classes look", attention),
    ("Frame geometry", frame_geometry),
    ("Head norms", head_norms),
    ("Sites", sites),
    ("Labels that occur together", label_pairs),
    ("Configuration and cost", setup),
)


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run's folder and return its path.

    Whatever the folder lacks (a run that stopped, a method without a frame) the report says and leaves out.

    Args:
        run_dir: a run's folder, with config.json, federation.json, metrics.jsonl and so on.

    What is missing or broken is in the log too.

    Raises:
        UserError: there is no such folder, the report cannot be written, or its journal is lost and there is a
            report from before.
    """
    if not run_dir.is_dir():
        raise UserError(f"no run's folder '{run_dir}': give the folder that holds the run's metrics.jsonl")
    run = read_run(run_dir)
    path = run_dir / "report.html"
    for problem in run.problems:
        log.warning("%s: %s", run_dir, problem)
    if not run.events and path.exists():
        raise UserError(
            f"{run_dir / 'metrics.jsonl'} has no event to report on: put a copy back; {path} stays as it is"
        )
    html = page(run.name, _lead(run), [(name, section(run)) for name, section in _sections(run)], image_notice(run))
    try:
        write_text(path, html)  # a reader never sees half a report
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); make room: the figures stay, "
            f"and `fednc report {run_dir}` writes it again"
        ) from None
    return path


def _sections(run: RunRecord) -> _Sections:
    if not run.multilabel:
        return _SECTIONS
    return [(name, section) for name, section in _SEVERAL if section is not attention or run.attends]


def _dataset(run: RunRecord) -> str:
    name = str(run.config.get("dataset", DASH))
    return f"{name} composites" if run.config.get("composites") else name


def _lead(run: RunRecord) -> str:
    config = run.config
    method = run.method
    named = f"{method.title} ({method.paper})" if method else str(config.get("method", DASH))
    facts = {
        "Experiment": config.get("name", DASH),
        "method": named,
        "data set": _dataset(run),
        "classes": len(run.classes) or DASH,
        "sites": len(run.site_names) or DASH,
        "validation images" if run.on_validation else "test images": plain(run.federation.get("num_test"), ",.0f"),
        "seed": config.get("seed", DASH),
    }
    return "; ".join(f"{key}: {value}" for key, value in facts.items()) + "."

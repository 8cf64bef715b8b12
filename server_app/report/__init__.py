"""The report of a run: one HTML file that holds everything it shows and asks for nothing outside itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.errors import UserError
from common.files import write_text
from server_app.report.attention import attention, image_notice
from server_app.report.blocks import Block
from server_app.report.charts.files import write_charts
from server_app.report.class_auc import auc_against_counts
from server_app.report.classes import per_class
from server_app.report.confusion import confusion
from server_app.report.geometry import frame_geometry, head_norms
from server_app.report.headline import headline
from server_app.report.label_pairs import label_pairs
from server_app.report.multilabel_headline import multilabel_headline
from server_app.report.page import DASH, Page, plain
from server_app.report.prototypes import class_features
from server_app.report.record import RunRecord, read_run
from server_app.report.rounds import accuracy_by_round, losses_by_round
from server_app.report.setup import setup
from server_app.report.sites import sites
from server_app.report.solved import solved_heads
from server_app.run.journal import log


@dataclass(frozen=True)
class Section:
    """One section of the page.

    Attributes:
        title: its heading.
        write: gives its blocks; none: it is left out, as what a method lacks is.
        labels: of runs with one label an image, with many, or any.
    """

    title: str
    write: Callable[[RunRecord], Sequence[Block]]
    labels: Literal["one", "many", "any"] = "any"

    def belongs(self, run: RunRecord) -> bool:
        """Whether it is on a run's page."""
        return self.labels in ("any", "many" if run.multilabel else "one")


# a row each, in the order of the page
_SECTIONS: tuple[Section, ...] = (
    Section("Results", headline, "one"),
    Section("Results", multilabel_headline, "many"),
    Section("Accuracy by round", accuracy_by_round, "one"),
    Section("AUC by round", accuracy_by_round, "many"),
    Section("Losses by round", losses_by_round),
    Section("What was solved", solved_heads),
    Section("Accuracy by class", per_class, "one"),
    Section("AUC by class", per_class, "many"),
    Section("Confusion", confusion, "one"),
    Section("AUC against class counts", auc_against_counts, "many"),
    Section("Class features", class_features, "many"),
    Section("Where the classes look", attention, "many"),
    Section("Frame geometry", frame_geometry),
    Section("Head norms", head_norms),
    Section("Sites", sites),
    Section("Labels that occur together", label_pairs, "many"),
    Section("Configuration and cost", setup),
)


def write_report(run_dir: Path, *, charts: bool = False) -> Path:
    """Write `report.html` into a run's folder and return its path.

    Whatever the folder lacks (a run that stopped, a method without a frame) the report says and leaves out.

    Args:
        run_dir: a run's folder, with config.json, federation.json, metrics.jsonl and so on.
        charts: whether the charts are also written as files, see `write_charts`, which takes seconds.

    What is missing or broken is in the log too.

    Raises:
        UserError: there is no such folder, the report or a chart cannot be written, or its journal is lost and there
            is a report from before.
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
    parts = [(section.title, section.write(run)) for section in _SECTIONS if section.belongs(run)]
    page = Page(run.name, _lead(run), parts, image_notice(run))
    try:
        write_text(path, page.html())  # a reader never sees half a report
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); make room: the metrics stay, "
            f"and `fednc report {run_dir}` writes it again"
        ) from None
    if charts:
        write_charts(page.charts(), run_dir)
    return path


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

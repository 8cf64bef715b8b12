"""The main metrics of a run, of one label an image or of several, and what they are called."""

from dataclasses import dataclass

from common.multilabel_table import titles
from server_app.report.blocks import Block, Paragraph
from server_app.report.record import RunRecord

# metrics of several labels beside macro AUC, all shares but the last
METRIC_TITLES = titles("main", "further", "count")

# and, of personal models in simulation, macro AUC by how many training images a class has in all
BY_SHOT = titles("by shot")


@dataclass(frozen=True)
class MetricNames:
    """The primary metric, generic and personal.

    Attributes:
        generic_key: its field in a generic event.
        site_key: its field in a site's metrics.
        personal: its name in the middle of a sentence, for personal models.
        short: what a class's metric is called.
        unit: what class counts count, summed over classes.
    """

    generic_key: str
    site_key: str
    personal: str
    short: str
    unit: str


_SINGLE_LABEL = MetricNames("balanced_accuracy", "accuracy", "plain accuracy", "accuracy", "images")
_MULTILABEL = MetricNames("macro_auc", "macro_auc", "macro AUC", "AUC", "labels")


def metric_names_of(run: RunRecord) -> MetricNames:
    """Return the words for a run's kind of labels."""
    return _MULTILABEL if run.multilabel else _SINGLE_LABEL


def unrecorded(run: RunRecord, what: str) -> list[Block]:
    """Return that a finished run recorded nothing of this; nothing for one that stopped before, as its page says."""
    return [Paragraph(what)] if run.finished else []

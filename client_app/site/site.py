"""One site as this process sees it: a simulated one by its number, a real one by its configuration file."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from flwr.app import Context

from client_app.site.config import SiteConfig, load_site_config
from client_app.site.data import load_labelled_data
from client_app.site.device import site_device
from client_app.site.log import log_warning
from client_app.site.policy import check_class_sizes, check_policy
from client_app.site.withdrawn import withdrawn_file
from common.config import Experiment
from common.data import Dataset, Federation, build_federation, label_counts
from common.data.images.decode_all import silenced
from common.errors import RefusalError, UserError
from common.head_start import solver_of
from common.methods import METHODS


@dataclass(frozen=True)
class Site:
    """One site: what it is asked, whose data, and what it decided for itself.

    Attributes:
        name: unique in the federation.
        experiment: the run that it takes part in.
        federation: its `dataset` has the site's images; a simulated one all sites'.
        train_rows: rows of the dataset's training images.
        test_rows: rows of its test images.
        visible: classes [C] whose labels the site knows; None: all.
        config: a real site's configuration; None for a simulated one.
    """

    name: str
    experiment: Experiment
    federation: Federation
    train_rows: npt.NDArray[np.int64]
    test_rows: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_] | None = None
    config: SiteConfig | None = None

    @property
    def dataset(self) -> Dataset:
        """The site's images are `train_rows` of its `train` and `test_rows` of its `test`."""
        return self.federation.dataset

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Classes [C] that the site has training images of, as far as it knows their labels."""
        return np.asarray(self.class_counts > 0)

    @property
    def class_counts(self) -> npt.NDArray[np.int64]:
        """Training images of each class, [C]; 0 where the site does not know the class's labels."""
        counts = label_counts(self.dataset.train.labels[self.train_rows], len(self.dataset.classes))
        return counts if self.visible is None else counts * self.visible


def simulated_site(experiment: Experiment, index: int) -> Site:
    """Return a site of a simulation by its number.

    Example:
        >>> from common.config import build
        >>> site = simulated_site(build({"dataset": "digits", "sites": 3}), 0)
        >>> site.name, site.dataset.name
        ('site-00', 'digits')
    """
    return _site_of(experiment, build_federation(experiment), index)


def find_site(experiment: Experiment, context: Context) -> Site:
    """Return the site that this node is.

    Raises:
        UserError: a simulated node has no partition, or one that the federation does not have; a real one has no
            configuration, refuses the experiment, lacks its device, or cannot read its images.
    """
    if experiment.sites.partition == "deployed":
        path = context.node_config.get("site-config")
        if not path:
            raise UserError(
                "this site has no configuration: start its SuperNode with --node-config 'site-config=\"…\"'"
            )
        return _real_site(experiment, Path(str(path)))
    with silenced():  # one line for each worker would be too much: the coordinator has logged it
        federation = build_federation(experiment)
    index = context.node_config.get("partition-id")
    if not isinstance(index, int) or not 0 <= index < len(federation.site_names):
        raise UserError(
            f"partition-id = {index!r}: this federation has sites 0 to {len(federation.site_names) - 1}; "
            f"give Flower as many nodes: --federation-config 'num-supernodes={len(federation.site_names)}'"
        )
    return _site_of(experiment, federation, index)


def _real_site(experiment: Experiment, path: Path) -> Site:
    config = load_site_config(path)
    site_device(experiment, config)
    row = METHODS[experiment.method]
    try:
        check_policy(config.policy, experiment, row)
        listed = withdrawn_file(config)
        changed = path.stat().st_mtime, listed.stat().st_mtime if listed.exists() else 0.0
        federation = _own_federation(experiment, path, changed)
        check_class_sizes(config.policy, experiment, told_sizes(federation, experiment))
    except RefusalError as refusal:
        named = str(refusal).startswith(f"site '{config.name}'")
        raise RefusalError(str(refusal) if named else f"site '{config.name}': {refusal}") from None
    return _site_of(experiment, federation, 0, config)


def told_sizes(federation: Federation, experiment: Experiment) -> list[int]:
    """Return how many images extras are about: of each class; of sums of several labels, also those without each."""
    counts, dataset = federation.class_counts, federation.dataset
    if not (dataset.multilabel and (METHODS[experiment.method].solves or solver_of(experiment))):
        return list(counts.tolist())
    known = np.ones(len(counts), np.bool_) if federation.visible is None else federation.visible[0]
    return [*counts[known].tolist(), *(len(dataset.train) - counts[known]).tolist()]


def _site_of(experiment: Experiment, federation: Federation, index: int, config: SiteConfig | None = None) -> Site:
    visible = None if federation.visible is None else federation.visible[index]
    rows = federation.train_rows[index], federation.test_rows[index]
    return Site(federation.site_names[index], experiment, federation, *rows, visible, config)


@lru_cache(maxsize=2)
def _own_federation(experiment: Experiment, path: Path, changed: tuple[float, float]) -> Federation:
    """Read a real site's images once a process, and again where its configuration or who has withdrawn changed."""
    config = load_site_config(path)
    dataset, labelled = load_labelled_data(config, experiment)
    for note in dataset.notes:
        log_warning(f"{config.data}: {note}")
    train, test = (np.arange(len(images), dtype=np.int64) for images in (dataset.train, dataset.test))
    visible = None if labelled is None else labelled[None]
    return Federation(dataset, (config.name,), (train,), (test,), visible)

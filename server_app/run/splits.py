"""Which image of a simulated run is trained on, tested with and at which site, written next to the run.

Of real sites nothing is written here: what their images are called stays with them, in their own state.
"""

from collections.abc import Iterator
from pathlib import Path

from common.data import Federation
from common.data.sources.splits import SPLITS, splits_text
from common.errors import UserError
from common.files import private_folder, write_text

FILE = "splits.csv"
UNUSED = "unused"  # left out by the long tail, or by label-rule: strict


def has_assignment(federation: Federation) -> bool:
    """Whether a run of this federation has a `splits.csv`: its images are files of a simulation."""
    return bool(federation.site_names) and federation.dataset.train_names is not None


def write_assignment(folder: Path, federation: Federation) -> None:
    """Write `splits.csv` with image, split and site, where the images are files of a simulation.

    A training image is at one site or unused. A test image of the coordinator's may be at several sites, too: then
    its site is left empty.

    Raises:
        UserError: it cannot be written, or a run that is resumed has another assignment: its data have changed. What
            was there stays.
    """
    if not has_assignment(federation):
        return
    path, text = folder / FILE, splits_text(("image", "split", "site"), _rows(federation))
    try:
        if path.exists() and path.read_bytes() != text.encode():
            raise UserError(
                f"resume: the images of the run in {folder} are others, or on other sides, than {FILE} says"
            )
        private_folder(folder)
        write_text(path, text)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); make room for it, or let it be written"
        ) from None


def _rows(federation: Federation) -> Iterator[tuple[str, str, str]]:
    dataset = federation.dataset
    for split, names, rows in zip(
        SPLITS, (dataset.train_names, dataset.test_names), (federation.train_rows, federation.test_rows), strict=True
    ):
        sites: dict[int, list[str]] = {}
        for site, of_site in zip(federation.site_names, rows, strict=True):
            for row in of_site.tolist():
                sites.setdefault(row, []).append(site)
        for row, name in enumerate(names or ()):
            at = sites.get(row, [])
            unused = split == SPLITS[0] and not at
            yield name, UNUSED if unused else split, at[0] if len(at) == 1 else ""

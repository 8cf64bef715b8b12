"""Which image of a simulated run is trained on, tested with and at which site, written next to the run.

Of real sites nothing is written here: what their images are called stays with them, in their own state.
"""

from collections.abc import Iterator
from pathlib import Path

from common.data import Federation
from common.data.splits import SPLITS, write_splits
from common.errors import UserError
from common.files import write_bytes

FILE = "splits.csv"
UNUSED = "unused"  # left out by the long tail, or by label-rule: strict


def write_assignment(folder: Path, federation: Federation) -> None:
    """Write `splits.csv` with image, split and site, where the images are files of a simulation.

    A training image is at one site or unused. A test image of the coordinator's may be at several sites, too: then
    its site is left empty.

    Raises:
        UserError: it cannot be written, or a run that is resumed has another assignment: its data have changed.
    """
    if not federation.site_names or federation.dataset.train_names is None:
        return
    path, columns = folder / FILE, ("image", "split", "site")
    before = path.read_bytes() if path.exists() else None
    try:
        write_splits(path, columns, _rows(federation))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror}); make room for it, or let it be written"
        ) from None
    if before is not None and path.read_bytes() != before:
        write_bytes(path, before)
        raise UserError(f"resume: the images of the run in {folder} are others, or on other sides, than {FILE} says")


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

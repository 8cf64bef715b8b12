"""The table of data sets: what the files of `common/data/sources` declare, read without importing them.

DATASETS = {"inaturalist": {"load": "load_inaturalist", "names_sites": True}}
"""

from ast import literal_eval
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent / "data" / "sources"
_DECLARATION = "\nDATASETS = "  # a literal, up to the first empty line


@dataclass(frozen=True)
class DataSetRow:
    """One data set.

    Attributes:
        name: the word for it in a configuration.
        module: that reads it.
        load: its function of an experiment.
        names_sites: whether it may say by itself which site each image is from, for `partition: natural`.
        has_arrays: whether `site-key` and `group-key` may name arrays of it.
    """

    name: str
    module: str
    load: str
    names_sites: bool = False
    has_arrays: bool = False


def _declared() -> dict[str, DataSetRow]:
    """Return the rows by name, in the order of files and declarations."""
    found: dict[str, DataSetRow] = {}
    for path in sorted(_FOLDER.glob("*.py")):
        _, begin, rest = path.read_text(encoding="utf-8").partition(_DECLARATION)
        declared: dict[str, dict[str, Any]] = literal_eval(rest.split("\n\n")[0]) if begin else {}
        for name, facts in declared.items():
            if name in found:
                raise TypeError(f"two data sets are named {name}")
            found[name] = DataSetRow(name, f"common.data.sources.{path.stem}", **facts)
    return found


DATA_SETS: dict[str, DataSetRow] = _declared()

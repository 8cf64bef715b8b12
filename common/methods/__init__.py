"""The table of methods that both sides agree on: one file each, found by its `METHOD`.

Adding one is a file here, with its row, its own keys, and builders of parts that no other method has, and a file in
`client_app/methods/` with its local loss.
The loops on both sides read these rows and never name a method.
"""

from importlib import import_module
from pkgutil import iter_modules

from common.methods.base import COMMON_HEAD_TITLES, FAMILIES, Method, MethodOptions, PartContext

__all__ = [
    "HEAD_STARTS",
    "HEAD_TITLES",
    "METHODS",
    "Method",
    "MethodOptions",
    "PartContext",
    "methods_for",
    "methods_with",
]


def _rows() -> list[Method]:
    modules = (import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__))
    rows = (row for module in modules if isinstance(row := getattr(module, "METHOD", None), Method))
    return sorted(rows, key=lambda row: (FAMILIES.index(row.family), row.year, row.name))


METHODS: dict[str, Method] = {row.name: row for row in _rows()}
HEAD_STARTS: dict[str, Method] = {row.starts: row for row in METHODS.values() if row.starts}  # by word of `head-start`
HEAD_TITLES: dict[str, str] = COMMON_HEAD_TITLES | {
    head: title for row in METHODS.values() for head, title in row.head_titles.items()
}


def methods_for(multilabel: bool) -> list[str]:
    """Return the methods that learn from images with several labels each, or with one."""
    return [name for name, row in METHODS.items() if row.labels in ("any", "many" if multilabel else "one")]


def methods_with(attribute: str) -> tuple[str, ...]:
    """Return the methods whose own keys have this one, by its name with underscores."""
    return tuple(name for name, row in METHODS.items() if attribute in row.options.model_fields)

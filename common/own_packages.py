"""Whether this process imports FedNC's own packages: `common`, `client_app` and `server_app` are names that others use.

Needs the standard library alone, since both apps run this file by its path where `common` is another's.
"""

import sys
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

PACKAGES = ("common", "client_app", "server_app")
_ALONE = "install FedNC in an environment of its own (python -m venv)"


def refuse_shadow(file: str) -> None:
    """Refuse to go on with another's `common`; where nobody catches it, as in a command, that is one line.

    Args:
        file: `__init__.py` of the app beside which `common` should lie.

    Raises:
        ImportError: what hides FedNC's package, where it lies, and what to do.
    """
    if not (words := _trouble(Path(file).resolve().parent.parent)):
        return  # reached by another name of the same folder
    error, before = ImportError(words), sys.excepthook

    def shown(kind: type[BaseException], raised: BaseException, trace: TracebackType | None) -> None:
        if raised is error:
            sys.stderr.write(f"error: {raised}\n")
        else:
            before(kind, raised, trace)

    sys.excepthook = shown
    raise error


def _trouble(root: Path) -> str:
    """Return what is wrong with the `common` that Python finds, where ours lies in `root`; '' for nothing."""
    ours = root / "common" / "__init__.py"
    if not ours.is_file():
        return f"{ours} is missing: install FedNC again"
    spec = find_spec("common")
    if spec and spec.origin and Path(spec.origin).resolve() == ours:
        if getattr(__import__("common"), "DISTRIBUTION", "") == "fednc":
            return ""
        others = [name for name in packages_distributions().get("common", []) if name != "fednc"]
        return f"{ours.parent} was overwritten by {' and '.join(others) or 'another distribution'}: {_ALONE}"
    return hidden("common", str(spec.origin if spec else None), root)


def hidden(name: str, found: str, root: Path) -> str:
    """Return the words for a package of ours that another hides.

    Args:
        name: of the package.
        found: the file that Python has found under this name, of the package or in it.
        root: the folder that ours lies in.
    """
    place = next((folder for folder in Path(found).parents if folder.name == name), found)
    return (
        f"{place} hides FedNC's package {name} in {root}: Python finds it first; take its folder out of PYTHONPATH, "
        f"start from another folder, or {_ALONE}"
    )


def hidden_by_us(root: Path) -> list[str]:
    """Return a line for each package of another that ours hide from programs of this environment.

    Args:
        root: the folder that ours lie in.
    """
    entries = list(dict.fromkeys(Path(place or ".").resolve() for place in sys.path))
    lines = []
    for entry in entries[entries.index(root) + 1 :] if root in entries else []:  # what is found after ours
        there = [place for name in PACKAGES if (place := _package(entry, name))]
        if len(there) < len(PACKAGES):  # a folder with all three is another copy of FedNC
            lines += [f"FedNC's package {place.stem} in {root} hides {place}: {_ALONE}" for place in there]
    if not (root / "pyproject.toml").exists():  # no checkout: other distributions may have files in the same folders
        for name, owners in packages_distributions().items():
            if name in PACKAGES and (others := sorted(set(owners) - {"fednc"})) and "fednc" in owners:
                lines.append(f"FedNC and {' and '.join(others)} have files in {root / name}: {_ALONE}")
    return lines


def _package(entry: Path, name: str) -> Path | None:
    """Return the package or module of a name in an entry of `sys.path`."""
    if (entry / name / "__init__.py").is_file():
        return entry / name
    return file if (file := entry / f"{name}.py").is_file() else None

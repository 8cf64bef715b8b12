"""Which code runs: its fingerprint, and that it is this app's own."""

import hashlib
from functools import lru_cache
from pathlib import Path

from common.errors import UserError
from common.own_packages import PACKAGES, hidden


@lru_cache(maxsize=1)
def code_fingerprint() -> str:
    """Return a hash over the three packages' source, so that both sides know they run the same code.

    Without `common/start`, which a wheel has elsewhere.
    """
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for package in sorted(PACKAGES):
        for path in sorted((root / package).rglob("*.py")):
            if path.parent.name == "start":
                continue
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=4)  # asked with every message
def check_installed(module_file: str) -> None:
    """Refuse to run when a module was imported from another app than this one.

    Ray puts its working folder first on the workers' `sys.path`, and package names such as
    `client_app` are common: another project's code could run silently.

    Raises:
        UserError: the module lies outside this app.
    """
    root = Path(__file__).resolve().parent.parent
    if root not in Path(module_file).resolve().parents:
        package = next((name for name in PACKAGES if name in Path(module_file).parts), "")
        raise UserError(hidden(package, module_file, root))

"""The federation's registry: which keys belong to which site, which are revoked, which ones Flower knows.

One JSON file without any secret. A row is one key; a site whose key was renewed has several rows, of which at most
one is not revoked.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from common.errors import UserError, unknown
from common.files import write_text

FILE = "registry.json"
_FORMAT = 1


@dataclass(frozen=True)
class SiteKey:
    """One public key of a site; times are ISO 8601 in UTC, empty where it has not happened."""

    site: str
    fingerprint: str  # as `ssh-keygen -l` shows it
    public_key: str  # one line, as OpenSSH writes it
    created: str
    revoked: str = ""
    registered: str = ""
    unregistered: str = ""
    node_id: str = ""  # Flower's; 64 bits, so no JSON number
    superlink: str = ""  # where it was registered

    @property
    def to_register(self) -> bool:
        """Say whether Flower should know this key and does not."""
        return not self.revoked and not self.registered

    @property
    def to_unregister(self) -> bool:
        """Say whether Flower still knows this revoked key."""
        return bool(self.revoked and self.registered and not self.unregistered)


@dataclass(frozen=True)
class Registry:
    """The federation: the address for sites, and the keys from old to new."""

    address: str
    port: int
    keys: tuple[SiteKey, ...] = ()

    def active(self, site: str) -> SiteKey | None:
        """Return the site's key that is not revoked, if there is one."""
        return next((key for key in self.keys if key.site == site and not key.revoked), None)

    def check_known(self, site: str) -> None:
        """Raise `UserError` for a site that never was."""
        if site not in (names := {key.site for key in self.keys}):
            if not names:
                raise UserError(f"unknown site {site!r}: there is none yet; make one with `fednc provision site`")
            raise unknown("site", site, names)

    def with_key(self, key: SiteKey) -> "Registry":
        """Return the registry with one key changed, or a new one at the end."""
        if key.fingerprint not in [old.fingerprint for old in self.keys]:
            return replace(self, keys=(*self.keys, key))
        keys: Sequence[SiteKey] = [key if old.fingerprint == key.fingerprint else old for old in self.keys]
        return replace(self, keys=tuple(keys))


def save(folder: Path, registry: Registry) -> None:
    """Write `registry.json` as a whole: a crash leaves the old one or the new one."""
    content = {"format": _FORMAT, **asdict(registry)}
    write_text(folder / FILE, json.dumps(content, indent=1) + "\n")


def load(folder: Path) -> Registry:
    """Read `registry.json`.

    Raises:
        UserError: no such file, or a damaged one.
    """
    path = folder / FILE
    if not path.is_file():
        raise UserError(f"{folder} is not a federation's folder (no {FILE}): make one with `fednc provision init`")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != _FORMAT:
            raise UserError(f"{path} is of another version of FedNC: use that version")
        content.pop("tag", None)  # of older versions
        keys = tuple(SiteKey(**row) for row in content.pop("keys"))
        return Registry(keys=keys, **content)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}): restore it from the backup") from None

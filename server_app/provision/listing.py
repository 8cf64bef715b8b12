"""What there is in a federation's folder, and what expires."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.table import Column, Table
from rich.text import Text

from server_app.provision.certificates import hosts_of, read_certificate
from server_app.provision.registry import Registry

WARN_BEFORE = timedelta(days=30)


@dataclass(frozen=True)
class Expiry:
    """A certificate, when it ends, and how to replace it."""

    what: str
    until: datetime
    remedy: str


def expiries(folder: Path) -> list[Expiry]:
    """Return the certificates of the folder, with times in UTC."""
    authority = read_certificate(folder / "ca" / "ca.crt")
    server = read_certificate(folder / "coordinator" / "secrets" / "server.crt")
    return [
        Expiry("CA", authority.not_valid_after_utc, "make a new federation with `fednc provision init`, with new kits"),
        Expiry("server", server.not_valid_after_utc, f"run `fednc provision renew {folder}`"),
    ]


def warnings(folder: Path, at: datetime) -> list[str]:
    """Return a line for every certificate that has expired or does so within 30 days."""
    lines = []
    for expiry in expiries(folder):
        if (left := expiry.until - at) <= timedelta():
            lines.append(f"the {expiry.what} certificate has expired on {expiry.until:%Y-%m-%d}: {expiry.remedy}")
        elif left <= WARN_BEFORE:
            lines.append(f"the {expiry.what} certificate expires in {left.days} days: {expiry.remedy}")
    return lines


def exit_code(folder: Path, at: datetime) -> int:
    """Return 0, 3 if a certificate expires within 30 days, 4 if one has expired."""
    left = min(expiry.until for expiry in expiries(folder)) - at
    return 4 if left <= timedelta() else 3 if left <= WARN_BEFORE else 0


def tables(folder: Path, registry: Registry) -> Iterable[Table]:
    """Yield a table of the certificates and one of the sites' keys."""
    server = read_certificate(folder / "coordinator" / "secrets" / "server.crt")
    certificates = Table("certificate", "expires", "for", title=Text(f"{registry.address}, port {registry.port}"))
    for expiry, hosts in zip(expiries(folder), ("", ", ".join(hosts_of(server))), strict=True):
        certificates.add_row(expiry.what, f"{expiry.until:%Y-%m-%d}", Text(hosts))
    yield certificates
    keys = Table(
        "site",
        Column("fingerprint", overflow="fold"),
        "created",
        "revoked",
        "registered",
        "node",
        title="keys of sites",
    )
    for key in registry.keys:
        registered = "removed" if key.unregistered else key.registered[:10] or ("" if key.revoked else "no")
        row = (key.site, key.fingerprint, key.created[:10], key.revoked[:10], registered, str(key.node_id or ""))
        keys.add_row(*map(Text, row))
    yield keys


def as_json(folder: Path, registry: Registry) -> str:
    """Return the same for programs."""
    content: dict[str, Any] = asdict(registry)
    content["expires"] = {e.what: e.until.strftime("%Y-%m-%dT%H:%M:%SZ") for e in expiries(folder)}
    return json.dumps(content, indent=1)

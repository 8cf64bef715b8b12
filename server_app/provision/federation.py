"""Making and changing a federation's folder: its sites, their keys, the coordinator's certificate."""

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from common import files
from common.config import APP_ROOT
from common.errors import UserError, run_all
from common.names import lookalike
from server_app.provision import flower
from server_app.provision.certificates import (
    CA_DAYS,
    host_name,
    hosts_of,
    make_authority,
    make_server_certificate,
    read_certificate,
    write_public,
)
from server_app.provision.kit import (
    delete_secrets,
    fill,
    new_secret,
    new_site_key,
    own_user,
    private_folder,
    version,
    write_secret,
)
from server_app.provision.registry import Registry, SiteKey, load, save

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def make(folder: Path, hosts: Sequence[str], port: int, days: int, at: datetime) -> None:
    """Make authority, server certificate, secrets and the coordinator's folder; all of it or nothing.

    Raises:
        UserError: the folder has content or lies in the project's, or a host is impossible.
    """
    if folder.resolve().is_relative_to(APP_ROOT):
        raise UserError(f"{folder} lies in {APP_ROOT}, which images and runs are made from: keep keys elsewhere")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: nothing is overwritten; name another folder")
    run_all(partial(host_name, host) for host in hosts)
    files.private_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        part = private_folder(Path(temporary) / "part")
        ca, coordinator = private_folder(part / "ca"), private_folder(part / "coordinator")
        make_authority(ca, CA_DAYS, at)
        _write_server_certificate(part, hosts, days, at)
        write_secret(coordinator / "secrets" / "superexec.secret", new_secret())
        private_folder(coordinator / "data").chmod(0o755)  # what lies there, the containers' user must read
        fill("coordinator", coordinator, {"tag": version(), "port": str(port), "user": own_user()})
        private_folder(part / "sites")
        save(part, Registry(hosts[0], port))
        part.rename(folder)


def add_site(folder: Path, name: str, at: datetime) -> SiteKey:
    """Make a site's kit and key.

    Raises:
        UserError: an impossible name, or one that is taken.
    """
    registry = load(folder)
    if not _NAME.fullmatch(name):
        raise UserError(f"site {name!r}: allowed are up to 32 lower-case letters, digits and hyphens, e.g. hospital-1")
    if any(key.site == name for key in registry.keys):
        raise UserError(f"site {name!r} exists: `fednc provision renew {folder} {name}` makes a new key for it")
    if other := lookalike(name, {key.site for key in registry.keys}):
        raise UserError(f"site {name!r} looks like {other!r}, which exists: give each site a name of its own")
    if (folder / "sites" / name).exists():
        raise UserError(f"{folder / 'sites' / name} is there, but not in the registry: delete it and run this again")
    return _new_key(folder, registry, name, at)


def renew_site(folder: Path, name: str, at: datetime) -> SiteKey:
    """Give a site a new key, and revoke the old one; a revoked site is let in again.

    Raises:
        UserError: an unknown site.
    """
    registry = load(folder)
    registry.check_known(name)
    if old := registry.active(name):
        registry = registry.with_key(replace(old, revoked=_iso(at)))
    return _new_key(folder, registry, name, at)


def renew_server(folder: Path, hosts: Sequence[str], days: int, at: datetime) -> None:
    """Make a new server key and certificate, for the given hosts or else for the former ones.

    Raises:
        UserError: an impossible host, or an authority that is missing or expired.
    """
    registry = load(folder)
    former = hosts_of(read_certificate(folder / "coordinator" / "secrets" / "server.crt"))
    _write_server_certificate(folder, hosts or former, days, at)
    if hosts:
        save(folder, replace(registry, address=hosts[0]))  # what new kits call


def revoke(folder: Path, name: str, at: datetime) -> SiteKey:
    """Mark a site's key as revoked, and delete the secrets of its kit. Flower is told by `synchronise`.

    Raises:
        UserError: an unknown site, or one that is revoked already.
    """
    registry = load(folder)
    registry.check_known(name)
    key = registry.active(name)
    if key is None:
        raise UserError(f"site {name!r} is revoked already; `fednc provision renew {folder} {name}` lets it in again")
    key = replace(key, revoked=_iso(at))
    save(folder, registry.with_key(key))
    delete_secrets(folder / "sites" / name)
    return key


def synchronise(folder: Path, superlink: str, at: datetime, report: Callable[[str], None]) -> None:
    """Register every new key with Flower, and remove every revoked one; what is done is noted at once.

    Args:
        folder: the federation's.
        superlink: HOST:PORT of the Control API, or the name of a connection in Flower's configuration.
        at: now.
        report: called with a line for every key.

    Raises:
        UserError: the SuperLink cannot be reached, or refused.
    """
    registry = load(folder)
    if not any(key.to_unregister or key.to_register for key in registry.keys):
        report("nothing to register or to remove")
        return
    with flower.connect(superlink, folder / "ca" / "ca.crt") as connection:
        for key in registry.keys:
            if key.to_unregister:
                flower.unregister(connection, key.node_id)
                registry = registry.with_key(replace(key, unregistered=_iso(at)))
                report(f"removed {key.site} {key.fingerprint}")
            elif key.to_register:
                node_id = flower.register(connection, key.site, key.public_key)
                registry = registry.with_key(replace(key, registered=_iso(at), node_id=node_id, superlink=superlink))
                report(f"registered {key.site} {key.fingerprint} as node {node_id}")
            save(folder, registry)


def _new_key(folder: Path, registry: Registry, name: str, at: datetime) -> SiteKey:
    kit = private_folder(folder / "sites" / name)
    secrets = private_folder(kit / "secrets")
    public_key, fingerprint = new_site_key(secrets)
    if not (secrets / "superexec.secret").exists():
        write_secret(secrets / "superexec.secret", new_secret())
    write_public(secrets / "ca.crt", (folder / "ca" / "ca.crt").read_bytes())
    write_public(kit / "site.pub", f"{public_key} {name}\n".encode())
    (kit / "INSTRUCTIONS.md").unlink(missing_ok=True)  # it shows the fingerprint
    host = f"[{registry.address}]" if ":" in registry.address else registry.address
    fields = {
        "site": name,
        "host": registry.address,
        "port": str(registry.port),
        "address": f"{host}:{registry.port}",
        "tag": version(),
        "fingerprint": fingerprint,
    }
    fill("site", kit, fields)
    key = SiteKey(name, fingerprint, public_key, created=_iso(at))
    save(folder, registry.with_key(key))
    return key


def _write_server_certificate(folder: Path, hosts: Sequence[str], days: int, at: datetime) -> None:
    ca, target = folder / "ca", private_folder(folder / "coordinator" / "secrets")
    certificate, key = make_server_certificate(ca, hosts, days, at)
    write_secret(target / "server.key", key)
    write_public(target / "server.crt", certificate)
    write_public(target / "ca.crt", (ca / "ca.crt").read_bytes())


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")

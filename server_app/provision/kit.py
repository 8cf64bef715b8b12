"""The folders that are carried to the machines: one for the coordinator and one for every site.

FOLDER/ca/                    the authority; stays here and goes into no container
FOLDER/registry.json          public keys and what became of them
FOLDER/coordinator/           compose file, .env, secrets/ of the SuperLink
FOLDER/sites/NAME/            compose file, .env, site.yaml, INSTRUCTIONS.md, secrets/ of one site
"""

import os
import re
import secrets
import tomllib
from base64 import b64encode
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    ssh_key_fingerprint,
)

from common import files
from common.config import APP_ROOT
from common.errors import UserError
from server_app.provision.certificates import write_public

CONTAINER_USER = 49999  # of the images
SITE_SECRETS = ("ca.crt", "site.key", "superexec.secret")
_FIELD = re.compile(r"\{\{(\w+)\}\}")


def templates(kind: str) -> Path:
    """Return the folder of the files that a 'coordinator' or a 'site' is given."""
    for root in (APP_ROOT, APP_ROOT / "server_app"):  # a checkout, and an installed package
        if (folder := root / "docker" / kind).is_dir():
            return folder
    raise UserError(f"docker/{kind} is not in this installation: install FedNC again")


def version() -> str:
    """Return the tag of the images that belong to this code: its version."""
    if (project := APP_ROOT / "pyproject.toml").is_file():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("fednc")


def own_user() -> str:
    """Return `user:group` of whoever makes the coordinator's folder; root stands for the images' own user."""
    return f"{os.getuid()}:{os.getgid()}" if os.getuid() else f"{CONTAINER_USER}:{CONTAINER_USER}"


def write_secret(path: Path, content: bytes) -> None:
    """Write a secret of a container; made by root, it belongs to the images' user."""
    files.write_bytes(path, content)
    if not os.getuid():
        os.chown(path, CONTAINER_USER, CONTAINER_USER)


def private_folder(path: Path) -> Path:
    """Make a folder that its owner alone can enter, whatever its mode was."""
    files.private_folder(path).chmod(0o700)
    return path


def new_secret() -> bytes:
    """Return a secret of 256 random bits for the requests between Flower's processes on one machine."""
    return secrets.token_hex(32).encode()


def new_site_key(folder: Path) -> tuple[str, str]:
    """Write `site.key`, a P-384 key as OpenSSH does.

    Args:
        folder: the secrets of the site's kit.

    Returns:
        The public key on one line, and its SHA-256 fingerprint as `ssh-keygen -l` shows it.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    write_secret(folder / "site.key", key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    public = key.public_key()
    line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    digest = b64encode(ssh_key_fingerprint(public, hashes.SHA256())).decode().rstrip("=")
    return line, f"SHA256:{digest}"


def fill(kind: str, folder: Path, fields: Mapping[str, str]) -> None:
    """Copy the templates into a kit, with `{{field}}` replaced; a file that is there already stays as it is."""
    for source in sorted([*templates(kind).iterdir(), templates(kind).parent / "README.md"]):
        target = folder / (".env" if source.name == "env" else source.name)
        if not target.exists():
            text = source.read_text(encoding="utf-8")
            write_public(target, _FIELD.sub(lambda match: fields[match[1]], text).encode())


def delete_secrets(folder: Path) -> None:
    """Delete a kit's secrets: its key is of no use any more.

    Raises:
        UserError: one cannot be deleted; files that are none of the kit's stay, and are named.
    """
    place = folder / "secrets"
    try:
        for name in SITE_SECRETS:
            (place / name).unlink(missing_ok=True)
        if place.exists():
            place.rmdir()
    except OSError as error:
        left = ", ".join(sorted(path.name for path in place.iterdir())) if place.is_dir() else place.name
        raise UserError(f"{place}: cannot be deleted ({error.strerror}); look at what is left: {left}") from None

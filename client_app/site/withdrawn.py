"""Patients who have withdrawn: a site reads none of their images any more. The list stays at the site.

It is a file beside personal models, `withdrawn.json`: name → when. Names are those of the manifest's column `patient`,
or images' paths below the data's folder.
"""

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from client_app.site.config import SiteConfig
from common.errors import MistakesError, UserError, did_you_mean, nearest
from common.files import private_folder, write_text


def withdrawn_file(config: SiteConfig) -> Path:
    """Return where a site keeps the list."""
    return config.state_dir / "withdrawn.json"


def read_withdrawn(config: SiteConfig) -> dict[str, str]:
    """Return name → when.

    Raises:
        UserError: the file is damaged: no image is read then, for one could be of somebody who has withdrawn.
    """
    path = withdrawn_file(config)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping) or not all(isinstance(when, str) for when in found.values()):
        raise UserError(f"{path}: cannot be read, and says who has withdrawn; put a copy there")
    return dict(found)


def add_withdrawn(config: SiteConfig, names: Iterable[str], known: Mapping[str, int]) -> list[str]:
    """Put names on the list, and return what a person should know of it, a line each.

    Args:
        config: the site's.
        names: patients, or images.
        known: how many images each possible name has.

    Raises:
        UserError: nobody, or no image, has one of the names; nothing is written then.
    """
    before, wanted = read_withdrawn(config), list(dict.fromkeys(names))
    wrong = [name for name in wanted if name not in known and name not in before]
    if wrong:
        where = f"{config.data}: no patient, nor an image, is called"
        hints = {name: did_you_mean(nearest(name, known)) for name in wrong}
        raise MistakesError([("", f"{where} '{name}'" + (f"; {hint}" if hint else "")) for name, hint in hints.items()])
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    path = withdrawn_file(config)
    try:
        private_folder(config.state_dir)
        write_text(path, json.dumps(dict.fromkeys(wanted, now) | before, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); look at state-dir") from None
    return [
        f"{name}: withdrawn already, on {before[name]}" if name in before else f"{name}: {known[name]} images"
        for name in wanted
    ]

"""Images that a site has twice, looked for once: each round may be a process of its own, and reading takes time."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from client_app.site.config import SiteConfig
from client_app.site.listing import Image
from common.data.sources.duplicates import copy_notes, equal_files
from common.errors import UserError
from common.files import private_folder, write_text

Notes = tuple[str, ...]


def duplicate_notes(config: SiteConfig, images: Sequence[Image]) -> Notes:
    """Return a line for each way in which files of a site are there twice."""

    def find() -> Notes:
        return copy_notes(
            equal_files([image.path for image in images]),
            [image.split for image in images],
            lambda one, other: set(images[one].labels) == set(images[other].labels),
            lambda row: images[row].name,
        )

    facts = [(image.name, image.split, sorted(image.labels)) for image in images]
    return cached_notes(config, [image.path for image in images], facts, find)


def cached_notes(config: SiteConfig, paths: Sequence[Path], facts: Any, find: Callable[[], Notes]) -> Notes:
    """Return notes that were found before of the same files, or find them now.

    Args:
        config: the site's.
        paths: the files that the notes are about.
        facts: JSON values that they depend on, too.
        find: finds them.

    Raises:
        UserError: they cannot be written to the site's state.
    """
    stats = [(stat.st_size, stat.st_mtime_ns) for stat in (path.stat() for path in paths)]
    key = hashlib.sha256(json.dumps([stats, facts]).encode(errors="surrogatepass")).hexdigest()
    path = config.state_dir / f"copies-{quote(config.name, safe='')}.json"
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        if before["key"] == key:
            return tuple(map(str, before["notes"]))
    except (OSError, ValueError, TypeError, KeyError):  # none yet, or half of one: it is found again
        pass
    notes = find()
    try:
        private_folder(path.parent)
        write_text(path, json.dumps({"key": key, "notes": notes}))
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); look at state-dir") from None
    return notes

"""Images of a data set that cannot be read: all are named at once, and `skip-bad-images` of them may be left out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import UserError

Failure = tuple[int, str]  # an image's row, and why it cannot be read

_NAMED = 20  # images that an error or a note names


class BadImagesError(UserError):
    """Images that cannot be read.

    Args:
        failures: rows and reasons.
        total: images, these among them.
        allowed: how many may be left out.
    """

    def __init__(self, failures: Sequence[Failure], total: int, allowed: int = 0) -> None:
        self.failures, self.total = tuple(failures), total
        number = len(failures)
        limit = f" (skip-bad-images: {allowed})" if allowed else ""
        counted = f"{number} of {total} images cannot be read{limit}: " if number > 1 or allowed else ""
        advice = f"; or set skip-bad-images: {number} to train without" if number < total else ""
        super().__init__(f"{counted}{_named(failures)}{advice}")


def skip_bad_images(sides: Sequence[Sequence[Failure]], total: int, allowed: int, root: Path) -> str:
    """Return the note on images that are left out.

    Args:
        sides: rows and reasons, of training and test images.
        total: images of both.
        allowed: `skip-bad-images`.
        root: the data's folder, which a note does not name.

    Raises:
        BadImagesError: there are more than allowed.
    """
    failures = [failure for side in sides for failure in side]
    if len(failures) > allowed:
        raise BadImagesError(failures, total, allowed)
    what = "image is left out, as it" if len(failures) == 1 else "images are left out, as they"
    named = _named(failures).replace(f"{root}/", "").replace("; replace or remove it", "")
    return f"{len(failures)} {what} cannot be read (skip-bad-images: {allowed}): {named}"


def without_rows(values: Any, failures: Sequence[Failure]) -> Any:
    """Return the entries of a list, a tuple or an array, or None as it is, without those of failed rows."""
    if values is None:
        return None
    failed = {row for row, _ in failures}
    kept = [row for row in range(len(values)) if row not in failed]
    if isinstance(values, np.ndarray):
        return values[np.array(kept, np.int64)]
    return type(values)(values[row] for row in kept)


def _named(failures: Sequence[Failure]) -> str:
    more = f"; and {len(failures) - _NAMED} more" if len(failures) > _NAMED else ""
    return "; ".join(reason for _, reason in failures[:_NAMED]) + more

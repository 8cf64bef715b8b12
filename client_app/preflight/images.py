"""What `fednc-site check` sees of a site's images: each is decoded, so that every one with a fault is named."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from client_app.site.config import SiteConfig
from client_app.site.listing import Image, Problem
from common.data.images.decoding import is_grey, open_image
from common.data.images.levels import Depth
from common.data.sources import npz
from common.data.sources.archive import Archive
from common.data.sources.duplicates import copies, equal_arrays, equal_files


@dataclass
class ReadableImages:
    """The images that can be read.

    Attributes:
        images: in their order.
        sizes: how many have a (width, height) in pixels, before they are fitted.
        colours: how many are grey, and how many colour.
        depth: how more than 8 bits become 8, as training has it.
    """

    images: list[Image] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    colours: Counter[str] = field(default_factory=Counter)
    depth: Depth = "percentile"
    _contents: list[npt.NDArray[np.uint8]] = field(default_factory=list)

    def add_file(self, image: Image) -> None:
        """Take in an image file; raise `OSError` or `UserError` where it cannot be read or decoded."""
        decoded = open_image(image.path.read_bytes(), image.name, self.depth)
        self._add(image, decoded.size, is_grey(decoded))

    def add_stored(self, image: Image, stored: npz.Stored) -> None:
        """Take in an image of an archive; raise `UserError` where it cannot be decoded."""
        content = stored.content
        if content.ndim == 1:
            decoded = open_image(content.tobytes(), image.name, self.depth)
            return self._add(image, decoded.size, is_grey(decoded), content)
        height, width, *channels = content.shape
        return self._add(image, (width, height), channels in ([], [1]), content)

    def _add(
        self, image: Image, size: tuple[int, int], grey: bool, content: npt.NDArray[np.uint8] | None = None
    ) -> None:
        self.sizes[size] += 1
        self.colours["grey" if grey else "colour"] += 1
        self.images.append(image)
        if content is not None:
            self._contents.append(content)

    def note_copies(self, problem: Callable[[Problem], None], warning: Callable[[Problem], None]) -> None:
        """Note equal images: a problem where one is trained on and the other tests, or where their labels differ."""
        images = self.images
        groups = equal_arrays(self._contents) if self._contents else equal_files([image.path for image in images])

        def same_labels(one: int, other: int) -> bool:
            return set(images[one].labels) == set(images[other].labels)

        for copy in copies(groups, [image.split for image in images], same_labels):
            image, first = images[copy.row], images[copy.first]
            note = warning if copy.kind == "twice" else problem
            note(Problem("duplicate", image.place, f"the same file as {first.place} {copy.reason}", image.row))


def images_of_archive(config: SiteConfig) -> list[tuple[Image, npz.Stored]]:
    """Return the images of a site's archive as those of a list, each with what is stored of it.

    Labels are in the experiment's words, as training takes them: two of the archive's may be one there. A word that
    is no class of it stays, for training to refuse.

    Raises:
        UserError: as `npz.stored_images`.
    """
    return [(_listed(config, stored), stored) for stored in npz.stored_images(Archive(config.data))]


def _listed(config: SiteConfig, stored: npz.Stored) -> Image:
    labels = tuple(config.class_map.get(name, name) for name in stored.labels)
    return Image(config.data, stored.place, stored.place, labels, "", stored.split)

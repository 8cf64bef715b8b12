"""Images kept on the training device, so that batches are sliced there instead of being copied each time."""

import warnings
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from common.data.images.source import ArrayImages, ImageSource, Rows

_LARGEST = 1 << 31  # bytes of one source; more is sent batch by batch
_HOST_DEVICES = ("cpu",)  # devices that see the machine's memory
_held: WeakKeyDictionary[ArrayImages, dict[torch.device, Tensor]] = WeakKeyDictionary()


class BatchSlices:
    """Some rows' images and labels in order, sliced into batches on the device.

    Labels and row numbers are sent at once, and images only where they cannot stay on the device: what is sent
    makes the processor wait until the device has done all that it was given before.

    Args:
        images: whose.
        rows: which, in the order of the slices.
        device: which trains or evaluates.

    Attributes:
        labels: [n] class indices, or bool [n, C], on the device.
    """

    def __init__(self, images: ImageSource, rows: Rows, device: torch.device) -> None:
        self._images, self._rows, self._device = images, rows, device
        self.labels = torch.from_numpy(images.labels[rows]).to(device)
        self._pixels = _resident(images, device)
        self._index = None if self._pixels is None else torch.from_numpy(rows).to(device)

    def pixels(self, part: slice) -> Tensor:
        """Return the images of a slice of the rows as uint8 [B, C, H, W] on the device."""
        if self._pixels is None or self._index is None:
            taken = self._images.batch(self._rows[part]).to(self._device)
        else:
            taken = self._pixels[self._index[part]]
        # of one channel, strides may look like those of channels-last, for which convolutions round otherwise
        return taken.flatten(1).view(taken.shape) if taken.shape[1] == 1 else taken


def resident_bytes(images: ImageSource) -> int:
    """Return what of a source stays on a device that is not near: all of it, or nothing."""
    if isinstance(images, ArrayImages) and images.pixels.nbytes <= _LARGEST:
        return images.pixels.nbytes
    return 0


def _resident(images: ImageSource, device: torch.device) -> Tensor | None:
    """Return all pixels on the device, sent once a process; None where they are near, or do not fit."""
    if device.type in _HOST_DEVICES or not isinstance(images, ArrayImages) or not resident_bytes(images):
        return None
    here = _held.setdefault(images, {})
    if device not in here:
        with warnings.catch_warnings(), torch.inference_mode(False):  # what is kept may be trained on later
            warnings.simplefilter("ignore", UserWarning)  # the array cannot be written, nor is it
            here[device] = torch.from_numpy(images.pixels).to(device)
    return here[device]

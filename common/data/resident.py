"""Pixels that stay on the device that trains on them, so that a batch is cut out there instead of being sent."""

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from common.data.images import ArrayImages, ImageSource, Rows

_LARGEST = 1 << 31  # bytes of one source; more is sent batch by batch
_NEAR = ("cpu",)  # devices that see the machine's memory
_held: WeakKeyDictionary[ArrayImages, dict[torch.device, Tensor]] = WeakKeyDictionary()


def batch_for(images: ImageSource, rows: Rows, device: torch.device) -> Tensor:
    """Return the images of these rows as uint8 [B, C, H, W]: on the device where they fit it, else on the CPU."""
    if device.type in _NEAR or not isinstance(images, ArrayImages) or images.pixels.nbytes > _LARGEST:
        return images.batch(rows)
    here = _held.setdefault(images, {})
    if device not in here:
        here[device] = torch.from_numpy(images.pixels.copy()).to(device)
    return here[device][torch.from_numpy(rows).to(device)]

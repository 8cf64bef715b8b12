"""Augmentation: training images changed at random as uint8 pixels, before `Scaling`; what is asked is `augment`.

Each image is changed by its own draw. All draws are made on the CPU, so that they are the same on every device and
every engine, and PyTorch's own generator stays as it was. `flip` and `crop-flip` alone work on a whole batch; other
steps are torchvision's `transforms.v2`, image by image on the batch's device, bilinear, with zeros where no image is;
devices may round them differently.

Images a second, 128 × 128 in colour, batches of 32, one thread of a server's CPU: flip 20 000, random-resized-crop
5 000, color-jitter 2 700 (with hue 500), crop-flip 2 600, trivialaugment 2 300, rotate 1 700, randaugment 1 200.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from common.augmentations import Step, parse_steps
from common.config import Experiment
from common.seeds import borrowed_generator

Change = Callable[[Tensor], Tensor]  # of one image

_PADDING = 4  # pixels, the customary amount for 32×32 images
_BATCHED = ("flip", "crop-flip")


@dataclass(frozen=True)
class Draws:
    """What chance decided for n images.

    Attributes:
        flips: bool [n].
        shifts: [2, n], top and left in the padded image; None: they stay where they are.
    """

    flips: Tensor
    shifts: Tensor | None

    def to(self, device: torch.device | str) -> "Draws":
        """Return them on a device."""
        return Draws(self.flips.to(device), None if self.shifts is None else self.shifts.to(device))

    def cut(self, part: slice) -> "Draws":
        """Return those of a slice of the images."""
        return Draws(self.flips[part], None if self.shifts is None else self.shifts[:, part])


@dataclass(frozen=True)
class Seeds:
    """What chance decided for n images: a seed each.

    Attributes:
        values: int64 [n], on the CPU, where they are read.
    """

    values: Tensor

    def to(self, device: torch.device | str) -> "Seeds":
        """Return them as they are."""
        return self

    def cut(self, part: slice) -> "Seeds":
        """Return those of a slice of the images."""
        return Seeds(self.values[part])


class Augmentation:
    """What an experiment's `augment` does with images.

    Args:
        augment: as `common/augmentations.py` describes.

    Raises:
        ValueError: it is not of that form.

    Example:
        >>> import torch
        >>> images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
        >>> augmentation = Augmentation("flip+rotate:15")
        >>> draws = augmentation.epoch([8], torch.Generator().manual_seed(0))
        >>> augmentation.apply(images[:4], draws.cut(slice(0, 4))).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(self, augment: str) -> None:
        self._steps = parse_steps(augment)
        names = [step.name for step in self._steps]
        self._batched = names[0] if len(names) == 1 and names[0] in _BATCHED else ""

    def epoch(self, sizes: Sequence[int], generator: torch.Generator) -> Draws | Seeds | None:
        """Draw for batches of these sizes, one batch after the other; None where nothing is to be done.

        Args:
            sizes: images a batch.
            generator: a CPU generator.
        """
        if not self._steps or not sizes:
            return None
        if self._batched:
            return _join([draw(self._batched, size, generator) for size in sizes])
        return Seeds(torch.randint(1 << 62, (sum(sizes),), generator=generator))

    def apply(self, batch: Tensor, draws: Draws | Seeds | None) -> Tensor:
        """Return a batch's images changed as drawn, of the same shape, on the same device.

        Args:
            batch: uint8 [B, C, H, W]; C is 1 or 3.
            draws: of its images, on its device.
        """
        if draws is None:
            return batch
        return self.view(batch, draws.values) if isinstance(draws, Seeds) else augment(batch, draws)

    def view(self, batch: Tensor, seeds: Tensor) -> Tensor:
        """Return each image changed as its own seed says, whatever images are beside it.

        Args:
            batch: uint8 [B, C, H, W].
            seeds: int64 [B], of any sign.
        """
        if not self._steps or not len(batch):
            return batch
        numbers = seeds.tolist()
        if self._batched:
            own = torch.Generator()
            drawn = [draw(self._batched, 1, own.manual_seed(number)) for number in numbers]
            return augment(batch, _join(drawn).to(batch.device))
        changes = [_change(step, batch.shape[-2], batch.shape[-1]) for step in self._steps]
        views = []
        with borrowed_generator() as generator:
            for image, number in zip(batch, numbers, strict=True):
                generator.manual_seed(number)
                for change in changes:
                    image = change(image)
                views.append(image)
        return torch.stack(views)


def augmentation_for(experiment: Experiment) -> Augmentation:
    """Return the augmentation of an experiment's training images."""
    return Augmentation(experiment.train.augment)


def draw(kind: str, size: int, generator: torch.Generator) -> Draws:
    """Draw for one batch.

    Args:
        kind: 'flip': each image left to right with probability ½; 'crop-flip': each also cut from itself with 4 pixels
            of padding.
        size: images of the batch.
        generator: a CPU generator.
    """
    flips = torch.rand(size, generator=generator) < 0.5
    shifted = kind == "crop-flip"
    return Draws(flips, torch.randint(0, 2 * _PADDING + 1, (2, size), generator=generator) if shifted else None)


def augment(batch: Tensor, draws: Draws) -> Tensor:
    """Crop and flip each image as drawn, filling with zeros.

    Args:
        batch: [B, C, H, W], any dtype, any device.
        draws: of its images, on its device.
    """
    if draws.shifts is not None:
        batch = _crop(batch, draws.shifts)
    return torch.where(draws.flips.view(-1, 1, 1, 1), batch.flip(-1), batch)


def _join(drawn: Sequence[Draws]) -> Draws:
    shifts = [draws.shifts for draws in drawn if draws.shifts is not None]
    return Draws(torch.cat([draws.flips for draws in drawn]), torch.cat(shifts, dim=1) if shifts else None)


def _crop(batch: Tensor, shifts: Tensor) -> Tensor:
    """Cut [B, C, H, W] from the padded batch at `shifts` [2, B] (top, left)."""
    size, channels, height, width = batch.shape
    padded = functional.pad(batch, (_PADDING,) * 4)
    device = batch.device
    rows = (shifts[0].view(-1, 1) + torch.arange(height, device=device)).view(size, 1, height, 1)
    columns = (shifts[1].view(-1, 1) + torch.arange(width, device=device)).view(size, 1, 1, width)
    images = torch.arange(size, device=device).view(-1, 1, 1, 1)
    return padded[images, torch.arange(channels, device=device).view(1, -1, 1, 1), rows, columns]


def _change(step: Step, height: int, width: int) -> Change:
    """Return what a step does with one image uint8 [C, height, width]; it draws from PyTorch's own generator.

    Saturation and hue of grey images are left as they are.
    """
    from torchvision.transforms import InterpolationMode, v2

    if step.name in _BATCHED:
        return lambda image: augment(image[None], draw(step.name, 1, torch.default_generator))[0]
    values: tuple[Any, ...] = step.values
    smooth: dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR}
    builders: dict[str, Callable[[], Change]] = {
        "rotate": lambda: v2.RandomRotation(values[0], **smooth),
        "random-resized-crop": lambda: v2.RandomResizedCrop((height, width), (values[0], 1.0), **smooth),
        "color-jitter": lambda: v2.ColorJitter(*values),
        "randaugment": lambda: v2.RandAugment(int(values[0]), int(values[1]), **smooth),
        "trivialaugment": lambda: v2.TrivialAugmentWide(**smooth),
    }
    return builders[step.name]()

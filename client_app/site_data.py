"""A real site's own images, with labels in the order of the experiment's classes."""

from dataclasses import replace

from client_app.site_config import SiteConfig
from common.config import Experiment, build
from common.data import Dataset, load_dataset
from common.data.deployed import with_classes
from common.errors import UserError


def load_site_data(config: SiteConfig, experiment: Experiment) -> Dataset:
    """Read a site's training and test images.

    What is read follows from `data`: a CSV is a manifest, an .npz an archive, a folder with a manifest.csv a
    manifest, any other folder train/<class>/… and test/<class>/….

    Args:
        config: the site's; its class-map renames local labels.
        experiment: `classes`, `image-size`, `pixel-mean` (its number of values says grey or RGB), `pixel-std`.

    Raises:
        UserError: images that cannot be read, a label that is no class, or another number of channels.
    """
    data = config.data
    kind = "image-folder"
    if data.suffix.lower() == ".csv" or (data / "manifest.csv").is_file():
        kind = "manifest"
    elif data.suffix.lower() == ".npz":
        kind = "npz"
    keys = {"dataset": kind, "data-dir": str(data), "image-size": experiment.image_size}
    dataset = load_dataset(build({key: value for key, value in keys.items() if value is not None}))
    local = dict(config.class_map)
    named = tuple(local.get(name, name) for name in dataset.classes)
    if len(set(named)) < len(named):
        raise UserError(f"class-map: two local labels become one class ({', '.join(named)}); join them in the data")
    dataset = with_classes(replace(dataset, classes=named), experiment.classes or ())
    channels = len(experiment.pixel_mean)
    if dataset.train.channels != channels:
        raise UserError(
            f"{data}: images with {dataset.train.channels} channel(s), the experiment has {channels} (pixel-mean)"
        )
    return replace(dataset, mean=experiment.pixel_mean, std=experiment.pixel_std)

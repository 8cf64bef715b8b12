"""Section `data`: which images, how they are read, and which are held out."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator

from common.config.sections.conditions import SIMULATED
from common.data_sets import DATA_SETS
from common.keys import Acts, KeyModel, NotNegative, OneOf, Positive, is_one_of, is_set, key
from common.names import check_names, class_name
from common.paths import default_dir

ClassNames = Annotated[tuple[str, ...], AfterValidator(lambda names: check_names(names, class_name, "class"))]
TEST_SHARE = 0.2  # of images without a split, in a simulation and at a site
_COMPOSED = Acts(is_set("composites"))
_SIMULATED = Acts(SIMULATED)
_DEPLOYED = Acts(is_one_of("partition", "deployed"))


class DataSection(KeyModel):
    """Which images, how they are read, and which are held out."""

    dataset: Annotated[str, OneOf(DATA_SETS)] = key(
        "digits", about="which images; see common/data/sources", data="images"
    )
    data_dir: Path | None = key(
        None,
        about="the images' folder, .npz or .csv file; default FEDNC_DATA",
        resume="host",
        stays=True,
        everyday=True,
    )
    image_size: Positive | None = key(
        None,
        le=4096,
        about="resize to this many pixels a side (composites: their own); default: as stored",
        data="look",
    )
    interpolation: Literal["bicubic", "bilinear"] | None = key(
        None,
        about="by which images are resized; default: as the backbone's pretrained weights expect, else bicubic",
        data="look",
        acts=Acts(is_set("image-size")),
    )
    depth: Literal["percentile", "stored"] = key(
        "percentile",
        about="over 8 bits: 0.1 to 99.9 % percentiles of an image, or the stored range, become 0..255",
        data="images",
    )
    skip_bad_images: NotNegative = key(
        0, about="this many images that cannot be read are left out, by name; one more ends the run", data="images"
    )
    image_memory: Positive = key(
        1024,
        le=10**6,
        about="MiB of decoded images kept in memory; beyond it, in a memory-mapped file",
        resume="host",
        stays=True,
    )
    image_cache: Path | None = key(
        None, about="folder of decoded images; default FEDNC_CACHE, or ~/.cache/fednc/images", resume="host", stays=True
    )
    site_key: str | None = key(
        None,
        about="npz: the array naming each image's site, e.g. 'center'",
        data="images",
        acts=Acts(is_one_of("partition", "natural")),
    )
    group_key: str | None = key(None, about="npz: the array naming each image's patient or lesion", data="images")
    composites: Positive | None = key(
        None,
        le=10**7,
        about="this many multi-label training images composed of single-label ones; default: none",
        data="sites",
        labels="one composed",
    )
    composites_test: Positive = key(
        1000, le=10**7, about="composites made of the test images", data="sites", acts=_COMPOSED
    )
    composite_single_share: float = key(
        0.0, ge=0, le=1, about="share of composites that show one image alone", data="sites", acts=_COMPOSED
    )
    composite_canvas: float = key(
        1.5,
        ge=1,
        le=16,
        about="side of a composite over that of an image; 2: no overlap",
        data="sites",
        acts=_COMPOSED,
    )
    head_class_size: Positive | None = key(
        None, about="images of the largest class; default: all", data="sites", acts=_SIMULATED, labels="one composed"
    )
    imbalance_factor: float = key(
        1.0,
        ge=1,
        about="largest over smallest class; 1 = as the data is",
        data="sites",
        acts=_SIMULATED,
        labels="one composed",
    )
    classes: ClassNames | None = key(
        None, about="deployed: the classes that all sites agree on, in order", common=True, acts=_DEPLOYED
    )
    labels: Literal["one", "many"] | None = key(
        None,
        about="deployed: how many labels an image has at every site; default: as the method takes, or one",
        common=True,
    )
    pixel_mean: tuple[float, ...] = key(
        (0.5,), about="deployed: subtracted from pixels in 0..1; one or 3 values", acts=_DEPLOYED
    )
    pixel_std: tuple[float, ...] = key(
        (0.25,), about="deployed: pixels are divided by it; one or 3 values", acts=_DEPLOYED
    )
    evaluate_on: Literal["test", "validation"] = key(
        "test",
        about="validation: images held out from the training images take the test images' place",
        data="sites",
        acts=_SIMULATED,
    )
    validation_share: float = key(
        0.2,
        gt=0,
        lt=1,
        about="of each class's training images, to hold out",
        data="sites",
        acts=Acts(is_one_of("evaluate-on", "validation"), elsewhere=True),  # `fednc tune` sets it
    )

    @property
    def root(self) -> Path:
        """Where the images are: `data-dir`, else FEDNC_DATA, else a cache below the home folder."""
        return self.data_dir or default_dir("FEDNC_DATA", ".cache/fednc/data")

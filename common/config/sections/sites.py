"""Section `sites`: who has which images."""

from typing import Literal

from common.config.sections.conditions import DEALT, SIMULATED
from common.keys import Acts, KeyModel, NotNegative, Positive, is_one_of, key

_SIMULATED = Acts(SIMULATED)


class SitesSection(KeyModel):
    """Who has which images."""

    sites: Positive = key(
        40,
        le=10**5,
        about="number of sites K (paper: 40)",
        data="sites",
        acts=Acts(is_one_of("partition", "dirichlet", "iid", "deployed")),
    )
    partition: Literal["dirichlet", "iid", "natural", "deployed"] = key(
        "dirichlet",
        about="natural: the sites that the data set itself names; deployed: real sites, own data",
        data="sites",
    )
    dirichlet: float = key(
        0.5,
        gt=0,
        about="concentration α of the partition; small = skewed (paper: .5, 1)",
        data="sites",
        acts=Acts(is_one_of("partition", "dirichlet")),
    )
    missing_classes: float = key(
        0.0,
        ge=0,
        lt=1,
        about="multi-label: share of the classes that each site misses (FedNCA-ML's γ)",
        data="sites",
        labels="many",
    )
    label_rule: Literal["strict", "mask"] = key(
        "mask",
        about="an image with labels that a site misses: goes elsewhere (strict); those are hidden (mask)",
        data="sites",
        acts=Acts(is_one_of("partition", "dirichlet")),
        labels="many",
    )
    keep_patients: bool = key(
        True,
        about="simulated partition: all images of one patient (or lesion) lie at one site",
        data="sites",
        acts=Acts(DEALT),
    )
    min_site_size: NotNegative = key(
        1, about="redraw the partition until every site has this many images", data="sites", acts=_SIMULATED
    )
    local_test: Literal["keep-classes", "paper"] = key(
        "keep-classes",
        about="paper: int(n_kc/N·n_test), which drops rare classes; keep-classes: never to 0",
        data="sites",
        acts=_SIMULATED,
        labels="one",
    )

"""Which fields of an experiment say what images there are, and who has which: two experiments that agree share them."""

DATASET_FIELDS = ("dataset", "image_size", "depth", "skip_bad_images", "site_key", "group_key")

# where this machine keeps decoded images: no field that decides which images there are, but what reads them needs it
MACHINE_FIELDS = ("image_memory", "image_cache")

FEDERATION_FIELDS = (
    *DATASET_FIELDS,
    *(
        "seed",
        "composites",
        "composites_test",
        "composite_single_share",
        "composite_canvas",
        "head_class_size",
        "imbalance_factor",
        "partition",
        "sites",
        "dirichlet",
        "missing_classes",
        "label_rule",
        "keep_patients",
        "min_site_size",
        "local_test",
        "evaluate_on",
        "validation_share",
    ),
)

TEST_SHARE = 0.2  # of images without a split, in a simulation and at a site

"""Images, and who holds which: data sets, long tail, partition over sites, local test splits, transforms.

`load_dataset` reads one data set; `build_federation` makes it long-tailed, or composes multi-label images of it,
and deals it to sites. Both depend on nothing but the experiment, so every process of a run that calls them
gets the same rows.
"""

from common.data.federation.build import Federation, build_federation
from common.data.images.source import ImageSource
from common.data.sources.dataset import Dataset, label_counts
from common.data.sources.loading import load_dataset

__all__ = ["Dataset", "Federation", "ImageSource", "build_federation", "label_counts", "load_dataset"]

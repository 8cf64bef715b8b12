"""Who holds which training rows. Every function deals each row to exactly one site."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.errors import UserError
from common.seeds import numpy_generator

Rows = npt.NDArray[np.int64]

_TRIES = 1000


def dirichlet(
    rows: Rows, labels: npt.NDArray[np.int64], sites: int, alpha: float, min_site_size: int, seed: int
) -> tuple[Rows, ...]:
    """Deal each class to the sites by its own p ~ Dir(α·1_K) (Hsu et al. 2019, https://arxiv.org/abs/1909.06335).

    Args:
        rows: [N] rows to deal.
        labels: [N] their classes.
        sites: number of sites K.
        alpha: concentration; small = skewed.
        min_site_size: the proportions are redrawn until every site has this many rows.
        seed: the run's.

    Returns:
        K sorted arrays of rows.

    Raises:
        UserError: no draw gave every site `min_site_size` rows.
    """
    _check_enough(len(rows), sites, min_site_size)
    generator = numpy_generator(seed, "partition")
    present, inverse, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    cuts = _draw_cuts(class_sizes, sites, alpha, min_site_size, generator)
    dealt: list[list[Rows]] = [[] for _ in range(sites)]
    for c in range(len(present)):
        shuffled = generator.permutation(rows[inverse == c])
        for site, part in enumerate(np.split(shuffled, cuts[c, :-1])):
            dealt[site].append(part)
    return tuple(np.sort(np.concatenate(parts)) for parts in dealt)


def iid(rows: Rows, sites: int, min_site_size: int, seed: int) -> tuple[Rows, ...]:
    """Deal the rows at random in K parts whose sizes differ by at most one; sorted within a site."""
    _check_enough(len(rows), sites, min_site_size)
    shuffled = numpy_generator(seed, "partition").permutation(rows)
    return tuple(np.sort(part) for part in np.array_split(shuffled, sites))


def natural(
    rows: Rows, row_sites: npt.NDArray[np.int64], site_names: Sequence[str], min_site_size: int
) -> tuple[Rows, ...]:
    """Give each site the rows that the data set says are its own; `row_sites` [N] belongs to `rows` [N].

    Raises:
        UserError: a site has fewer than `min_site_size` rows.
    """
    sizes = np.bincount(row_sites, minlength=len(site_names))
    if len(small := np.flatnonzero(sizes < min_site_size)):
        name, size = site_names[small[0]], sizes[small[0]]
        raise UserError(f"min-site-size = {min_site_size}: site '{name}' has {size} training images; lower it")
    # A stable sort keeps a site's rows in their order; no loop over rows × sites.
    by_site = rows[np.argsort(row_sites, kind="stable")]
    return tuple(np.sort(part) for part in np.split(by_site, np.cumsum(sizes)[:-1]))


def _draw_cuts(
    class_sizes: npt.NDArray[np.int64], sites: int, alpha: float, minimum: int, generator: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Return [C, K] ends of each site's share in each class; the last column is the class size."""
    best = -1
    for _ in range(_TRIES):
        proportions = generator.dirichlet(np.full(sites, alpha), size=len(class_sizes))
        cuts = np.rint(np.cumsum(proportions, axis=1) * class_sizes[:, None]).astype(np.int64)
        cuts[:, -1] = class_sizes
        smallest = int(np.diff(cuts, axis=1, prepend=0).sum(axis=0).min())
        if smallest >= minimum:
            return cuts
        best = max(best, smallest)
    raise UserError(
        f"min-site-size = {minimum}: in {_TRIES} draws with {sites} sites and dirichlet = {alpha:g} "
        f"the smallest site had at most {best} images; lower min-site-size or sites, or raise dirichlet"
    )


def _check_enough(images: int, sites: int, min_site_size: int) -> None:
    if images < sites * min_site_size:
        raise UserError(
            f"min-site-size = {min_site_size}: {sites} sites need {sites * min_site_size} training images "
            f"and there are {images}; lower min-site-size or sites"
        )

"""Who holds which training rows. Every function deals each row to exactly one site."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.data.federation.whole_groups import deal_groups, fill_up
from common.errors import UserError
from common.seeds import numpy_generator

Rows = npt.NDArray[np.int64]

_TRIES = 1000
_GROUP_TRIES = 20  # each of them takes longer


def dirichlet(
    rows: Rows,
    labels: npt.NDArray[np.int64],
    sites: int,
    alpha: float,
    min_site_size: int,
    seed: int,
    groups: Rows | None = None,
) -> tuple[Rows, ...]:
    """Deal each class to the sites by its own p ~ Dir(α·1_K) (Hsu et al. 2019, https://arxiv.org/abs/1909.06335).

    Args:
        rows: [N] rows to deal.
        labels: [N] their classes.
        sites: number of sites K.
        alpha: concentration; small = skewed.
        min_site_size: the proportions are redrawn until every site has this many rows.
        seed: the run's.
        groups: [N] the patient (or lesion) of each row, all of whose rows go to one site; a site's share of a class
            is then only near to what was drawn. None: every row by itself.

    Returns:
        K sorted arrays of rows.

    Raises:
        UserError: no draw gave every site `min_site_size` rows.

    Example:
        >>> import numpy as np
        >>> parts = dirichlet(np.arange(100), np.arange(100) % 4, sites=5, alpha=0.5, min_site_size=1, seed=0)
        >>> sorted(row for part in parts for row in part.tolist()) == list(range(100))
        True
    """
    _check_enough(len(rows), sites, min_site_size, groups)
    generator = numpy_generator(seed, "partition")
    present, inverse, class_sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if groups is not None:
        one_each, anywhere = np.eye(len(present), dtype=np.bool_), np.ones((len(present), sites), np.bool_)
        for _ in range(_GROUP_TRIES):
            cuts = _draw_cuts(class_sizes, sites, alpha, min_site_size, generator)
            wanted = np.diff(cuts, axis=1, prepend=0)
            drawn = deal_groups(groups, inverse, one_each, wanted, anywhere, False, generator)
            if (site_of := fill_up(drawn, groups, sites, min_site_size)) is not None:
                return by_site(rows, site_of, sites)
        raise _too_large(sites, min_site_size)
    cuts = _draw_cuts(class_sizes, sites, alpha, min_site_size, generator)
    dealt: list[list[Rows]] = [[] for _ in range(sites)]
    for c in range(len(present)):
        shuffled = generator.permutation(rows[inverse == c])
        for site, part in enumerate(np.split(shuffled, cuts[c, :-1])):
            dealt[site].append(part)
    return tuple(np.sort(np.concatenate(parts)) for parts in dealt)


def iid(rows: Rows, sites: int, min_site_size: int, seed: int, groups: Rows | None = None) -> tuple[Rows, ...]:
    """Deal the rows at random in K parts whose sizes differ by at most one; sorted within a site.

    With `groups` [N], patients or lesions, each goes to one site as a whole, the largest first, each to the site with
    the fewest rows so far: sizes then differ by at most the largest group.

    Raises:
        UserError: too few rows, or groups, for that many sites of `min_site_size`.

    Example:
        >>> import numpy as np
        >>> [len(rows) for rows in iid(np.arange(10), sites=2, min_site_size=1, seed=0)]
        [5, 5]
    """
    _check_enough(len(rows), sites, min_site_size, groups)
    generator = numpy_generator(seed, "partition")
    if groups is None:
        return tuple(np.sort(part) for part in np.array_split(generator.permutation(rows), sites))
    _, inverse, numbers = np.unique(groups, return_inverse=True, return_counts=True)
    shuffled, sizes = generator.permutation(len(numbers)), np.zeros(sites, np.int64)
    site_of_group = np.zeros(len(numbers), np.int64)
    for group in shuffled[np.argsort(-numbers[shuffled], kind="stable")].tolist():
        site_of_group[group] = site = int(sizes.argmin())
        sizes[site] += numbers[group]
    if (site_of := fill_up(site_of_group[inverse], groups, sites, min_site_size)) is None:
        raise _too_large(sites, min_site_size)
    return by_site(rows, site_of, sites)


def by_site(rows: Rows, site_of: Rows, sites: int) -> tuple[Rows, ...]:
    """Return each site's rows, sorted; `site_of` [N] belongs to `rows` [N], and those of no site are K or more."""
    return tuple(np.sort(rows[site_of == site]) for site in range(sites))


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


def _too_large(sites: int, min_site_size: int) -> UserError:
    return UserError(
        f"min-site-size = {min_site_size}: whole patients cannot be dealt to {sites} sites so that each has as many "
        "images; lower min-site-size or sites, or set keep-patients: false"
    )


def _check_enough(images: int, sites: int, min_site_size: int, groups: Rows | None = None) -> None:
    if images < sites * min_site_size:
        raise UserError(
            f"min-site-size = {min_site_size}: {sites} sites need {sites * min_site_size} training images "
            f"and there are {images}; lower min-site-size or sites"
        )
    if groups is not None and min_site_size and (patients := len(np.unique(groups))) < sites:
        raise UserError(
            f"sites = {sites}: there are {patients} patients, each of whom lies at one site; lower sites, or set "
            "keep-patients: false"
        )

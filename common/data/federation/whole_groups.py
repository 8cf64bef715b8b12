"""Dealing whole patients (or lesions) to sites, so that each site's numbers of each class come near to drawn ones.

Groups with the rarest class come first, of those the largest; each goes to the site where it brings the numbers of
its classes nearest to the wanted ones, in shares of the classes. What is left over is as far off as a group is large.
"""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def deal_groups(
    groups: Rows, member: Rows, label_sets: Flags, wanted: Rows, fits: Flags, drop: bool, generator: np.random.Generator
) -> Rows:
    """Return the site of each image, [N]; K where it is dropped.

    Args:
        groups: [N] the patient of each image.
        member: [N] its label set.
        label_sets: bool [U, C].
        wanted: [U, K] images of each label set that each site should get.
        fits: bool [U, K], where a label set may go. A group goes to a site that fits most of its images.
        drop: whether images that do not fit there are dropped; else they go there all the same.
        generator: for the order of equal groups, and of sites that are equally good.
    """
    sites = wanted.shape[1]
    # a column for each class, one for images without any, one for all images
    table = np.hstack([label_sets, ~label_sets.any(axis=1, keepdims=True), np.ones((len(label_sets), 1))]).astype(float)
    left = wanted.T.astype(float) @ table  # [K, C + 2]
    sizes = np.bincount(member, minlength=len(label_sets)) @ table
    weights = 1 / np.maximum(sizes, 1)
    site_of = np.full(len(groups), sites, np.int64)
    inverse = np.unique(groups, return_inverse=True)[1]
    rows_of = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    pairs, counts = np.unique(inverse * len(label_sets) + member, return_counts=True)  # (group, set) that exist
    ends = np.cumsum(np.bincount(pairs // len(label_sets), minlength=len(rows_of)))
    rarest = np.where(table > 0, sizes, np.inf)[:, :-1].min(axis=1)  # of each label set
    rarest = np.minimum.reduceat(rarest[pairs % len(label_sets)], [0, *ends[:-1]]) if len(pairs) else rarest[:0]
    shuffled = generator.permutation(len(rows_of)) if len(pairs) else np.empty(0, np.int64)
    order = np.lexsort((-np.bincount(inverse)[shuffled], rarest[shuffled])) if len(pairs) else shuffled
    for group in shuffled[order].tolist():
        rows, part = rows_of[group], slice(ends[group - 1] if group else 0, ends[group])
        sets, numbers = pairs[part] % len(label_sets), counts[part]
        of_sets = table[sets]
        columns = np.flatnonzero(of_sets.any(axis=0))
        goes = fits[sets] if drop else np.ones((len(sets), sites), np.bool_)
        brought = (goes.T * numbers) @ of_sets[:, columns]  # [K, m]
        before = left[:, columns]
        cost = (np.abs(before - brought) - np.abs(before)) @ weights[columns]
        fitting = numbers @ fits[sets]
        cost[fitting < fitting.max()] = np.inf
        best = np.flatnonzero(cost <= cost.min() + 1e-12)
        site = int(generator.choice(best)) if len(best) > 1 else int(best[0])
        left[site, columns] -= brought[site]
        site_of[rows[goes[np.searchsorted(sets, member[rows]), site]]] = site
    return site_of


def fill_up(site_of: Rows, groups: Rows, sites: int, minimum: int) -> Rows | None:
    """Return the dealing with groups moved from large sites to those of fewer than `minimum` images; None: impossible.

    The smallest groups of the largest sites are moved, so that few images change their site.
    """
    values, inverse, numbers = np.unique(groups, return_inverse=True, return_counts=True)
    site_of_group = np.zeros(len(values), np.int64)
    site_of_group[inverse] = site_of
    sizes = np.bincount(site_of_group, numbers, sites).astype(np.int64)
    while sizes.min() < minimum:
        poor = int(sizes.argmin())
        spare = (sizes[site_of_group] - numbers >= minimum) & (site_of_group != poor)
        if not spare.any():
            return None
        donors = np.flatnonzero(spare)
        group = int(donors[np.lexsort((numbers[donors], -sizes[site_of_group[donors]]))[0]])
        sizes[site_of_group[group]] -= numbers[group]
        sizes[poor] += numbers[group]
        site_of_group[group] = poor
    return site_of_group[inverse]

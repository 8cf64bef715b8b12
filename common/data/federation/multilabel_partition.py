"""Who holds which training rows when an image may carry several labels, or none.

Each site supports some of the classes and misses the rest; over its supporters, each class is spread by its own
Dirichlet proportions. What becomes of an image whose labels no single site supports depends on the rule:

- `strict`: an image goes only where all its labels are supported. Where they are supported nowhere, it is dropped.
- `mask`: an image goes to a supporter of any of its labels. Labels outside the site's support are hidden there,
  positive or not, and no loss or metric may use them. No image is dropped.

Under both, an image without labels may go anywhere.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from common.data.federation.partition import by_site
from common.data.federation.whole_groups import deal_groups
from common.errors import UserError
from common.seeds import numpy_generator

Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Shares = npt.NDArray[np.float64]
Rule = Literal["strict", "mask"]

_TRIES = 200
_GROUP_TRIES = 20  # each of them takes longer
_HOMES = 2  # sites that every class should live at


@dataclass(frozen=True)
class PartitionReport:
    """What was asked for and what came out.

    Attributes:
        missing_asked: share of classes outside each site's support, after rounding to whole classes.
        missing: mean over sites of the share of classes without a visible positive; classes that no image has
            are left out.
        missing_by_site: the same for each site.
        dropped: share of images that went to no site; 0 under `mask`.
        hidden: share of the dealt images' positive labels that are hidden; 0 under `strict`.
        lonely_classes: of the classes that images have, those with visible positives at fewer than two sites.
    """

    missing_asked: float
    missing: float
    missing_by_site: tuple[float, ...]
    dropped: float
    hidden: float
    lonely_classes: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class MultilabelPartition:
    """Rows and visible labels of K sites.

    Attributes:
        rows: K sorted arrays; no row is at two sites.
        supports: bool [K, C], the classes that each site may see positives of.
        visible: bool [K, C], labels that count in losses and metrics: `supports` under `mask`, all under
            `strict`, where a class outside the support is known to be absent.
        report: what came out.
    """

    rows: tuple[Rows, ...]
    supports: Flags
    visible: Flags
    report: PartitionReport


def deal(
    rows: Rows,
    labels: Flags,
    sites: int,
    alpha: float,
    missing_classes: float,
    rule: Rule,
    min_site_size: int,
    seed: int,
    groups: Rows | None = None,
) -> MultilabelPartition:
    """Choose supports, deal the images, and redraw both until every site is large enough.

    First every class gets one image at each of two supporters where the images allow it, so that it lives at
    two sites whatever the proportions say. The others are drawn: class c has proportions p_c ~ Dir(α·1) over
    its supporters, images without labels some over all sites, and an image goes to site k with chances in
    proportion to the mean of p_ck over its labels, among the sites that the rule allows. Under `strict`, which drops
    images, a draw that leaves every class at two sites is preferred.

    Args:
        rows: [N] rows to deal.
        labels: bool [N, C], theirs.
        sites: number of sites K.
        alpha: Dirichlet concentration; small = skewed.
        missing_classes: share of the classes outside each site's support, in [0, 1).
        rule: `strict` or `mask`.
        min_site_size: images that every site gets at least.
        seed: the run's.
        groups: [N] the patient (or lesion) of each row, None: every row by itself. All images of one go to one site,
            the one that suits most of them, near to the drawn numbers; `strict` drops those that do not suit it,
            `mask` gives it these too, with all their labels hidden.

    Raises:
        UserError: supports that leave some class with too few sites, or no draw gave every site
            `min_site_size` images.
    """
    if len(rows) < sites * min_site_size:
        raise UserError(
            f"min-site-size = {min_site_size}: {sites} sites need {sites * min_site_size} training images "
            f"and there are {len(rows)}; lower min-site-size or sites"
        )
    generator = numpy_generator(seed, "partition")
    label_sets, member, set_sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    best, found = -1, None
    for _ in range(_TRIES if groups is None else _GROUP_TRIES):
        supports = choose_supports(labels.shape[1], sites, missing_classes, generator)
        counts = _draw_counts(label_sets, set_sizes, supports, alpha, rule, generator)
        site_of = None
        if groups is not None:
            fits = _allowed(label_sets, supports, rule)
            site_of = deal_groups(groups, member.ravel(), label_sets, counts, fits, rule == "strict", generator)
            counts = np.zeros((len(label_sets), sites + 1), np.int64)
            np.add.at(counts, (member.ravel(), site_of), 1)
            counts = counts[:, :sites]
        smallest = int(counts.sum(axis=0).min())
        if smallest >= min_site_size:
            visible = supports if rule == "mask" else np.ones_like(supports)
            positives, known = counts.T @ label_sets, set_sizes @ label_sets > 0
            report = _report(positives, known, int(counts.sum()), len(rows), supports, visible)
            if found is None or not report.lonely_classes:
                if site_of is None:
                    parts = _hand_out(rows, member.ravel(), counts, set_sizes, generator)
                else:
                    parts = by_site(rows, site_of, sites)
                found = MultilabelPartition(parts, supports, visible, report)
            if rule == "mask" or not report.lonely_classes:  # under `strict` another draw may do better
                return found
        best = max(best, smallest)
    if found:
        return found
    raise UserError(
        f"min-site-size = {min_site_size}: in {_TRIES if groups is None else _GROUP_TRIES} draws with {sites} sites, "
        f"dirichlet = {alpha:g} and missing-classes = {missing_classes:g} ({rule}) the smallest site had at most "
        f"{best} images; lower min-site-size, sites or missing-classes, or raise dirichlet"
        f"{'' if groups is None else ', or set keep-patients: false'}"
    )


def everywhere(parts: tuple[Rows, ...], labels: Flags) -> MultilabelPartition:
    """Describe a partition made otherwise, by chance or by nature: every site supports every class.

    Args:
        parts: rows of each site.
        labels: bool [N, C] of all images; those in no part count as dropped.
    """
    supports = np.ones((len(parts), labels.shape[1]), np.bool_)
    positives = np.stack([labels[part].sum(axis=0) for part in parts])
    report = _report(positives, labels.sum(axis=0) > 0, sum(map(len, parts)), len(labels), supports, supports)
    return MultilabelPartition(parts, supports, supports, report)


def choose_supports(num_classes: int, sites: int, missing_classes: float, generator: np.random.Generator) -> Flags:
    """Choose the classes of each site, bool [K, C]: equally many a site, each class at two sites or more.

    Every site misses round(missing_classes · C) classes at random. Then classes with too few sites replace
    the most common ones. A single site must miss none.

    Raises:
        UserError: that many missing classes leave a site without any, or some class with fewer than two sites.
    """
    kept = num_classes - round(missing_classes * num_classes)
    homes = min(_HOMES, sites)
    if not 0 < kept <= num_classes or kept * sites < homes * num_classes:
        needed = -(-homes * num_classes // sites)
        raise UserError(
            f"missing-classes = {missing_classes:g}: leaves each of {sites} sites {kept} of {num_classes} classes; "
            f"every class needs {homes} of the sites, so each of them {needed} classes: lower missing-classes to "
            f"{(num_classes - needed) / num_classes:.3g}, or raise sites"
        )
    supports = generator.permuted(np.tile(np.arange(num_classes) < kept, (sites, 1)), axis=1)
    while (sites_of := supports.sum(axis=0)).min() < homes:
        # All sites together have places for `homes` of each: while one class lacks some, another has a spare.
        poor, rich = int(sites_of.argmin()), int(sites_of.argmax())
        site = generator.choice(np.flatnonzero(supports[:, rich] & ~supports[:, poor]))
        supports[site, [poor, rich]] = True, False
    return supports


def _allowed(label_sets: Flags, supports: Flags, rule: Rule) -> Flags:
    """Return where each label set may go, bool [U, K]."""
    carried = label_sets.sum(axis=1, keepdims=True)
    supported = label_sets.astype(np.int64) @ supports.T  # [U, K] labels of the set that the site supports
    return np.asarray(supported == carried if rule == "strict" else (supported > 0) | (carried == 0))


def _draw_counts(
    label_sets: Flags, set_sizes: Rows, supports: Flags, alpha: float, rule: Rule, generator: np.random.Generator
) -> Rows:
    """Draw how many images of each label set [U, C] go to each site, [U, K]."""
    carried, allowed = label_sets.sum(axis=1, keepdims=True), _allowed(label_sets, supports, rule)
    chances = np.zeros((supports.shape[1] + 1, len(supports)))
    for c, supporters in enumerate([*supports.T, np.ones(len(supports), np.bool_)]):  # the last: no label
        chances[c, supporters] = generator.dirichlet(np.full(supporters.sum(), alpha))
    weights = np.where(allowed, np.hstack([label_sets, carried == 0]) @ chances, 0)
    weights[~weights.any(axis=1)] = 1  # proportions that round to nothing: every allowed site is as likely
    weights *= allowed
    reserved = _reserve(label_sets, set_sizes, allowed, supports, generator)
    dealt = allowed.any(axis=1)
    weights[~dealt] = 1
    left = np.where(dealt, set_sizes - reserved.sum(axis=1), 0)
    drawn = generator.multinomial(left, weights / weights.sum(axis=1, keepdims=True))
    return np.asarray(reserved + drawn, np.int64)


def _reserve(
    label_sets: Flags, set_sizes: Rows, allowed: Flags, supports: Flags, generator: np.random.Generator
) -> Rows:
    """Give each class, rarest first, an image at as many as two supporters; counts [U, K]."""
    reserved = np.zeros_like(allowed, dtype=np.int64)
    for c in np.argsort(set_sizes @ label_sets, kind="stable"):
        having = np.flatnonzero(label_sets[:, c])
        for _ in range(_HOMES):
            homes = reserved[having].any(axis=0) & supports[:, c]
            free = set_sizes[having] > reserved[having].sum(axis=1)
            places = np.argwhere(allowed[having] & free[:, None] & (supports[:, c] & ~homes))
            if homes.sum() >= _HOMES or not len(places):
                break
            chosen, site = generator.choice(places)
            reserved[having[chosen], site] += 1
    return reserved


def _hand_out(
    rows: Rows, member: Rows, counts: Rows, set_sizes: Rows, generator: np.random.Generator
) -> tuple[Rows, ...]:
    """Deal each label set's rows at random by its counts [U, K]; what the counts leave is dropped."""
    sites = counts.shape[1]
    shuffled = generator.permutation(len(rows))
    by_set = shuffled[np.argsort(member[shuffled], kind="stable")]
    ends = np.hstack([counts, (set_sizes - counts.sum(axis=1))[:, None]])  # the last column is dropped
    site_of = np.repeat(np.tile(np.arange(sites + 1), len(ends)), ends.ravel())
    return tuple(np.sort(rows[by_set[site_of == site]]) for site in range(sites))


def _report(positives: Rows, known: Flags, dealt: int, images: int, supports: Flags, visible: Flags) -> PartitionReport:
    """Sum up from the positives [K, C] that sites got, the classes [C] that images have, and numbers of images."""
    held = (positives > 0) & visible
    missing = 1 - held[:, known].mean(axis=1) if known.any() else np.zeros(len(held))
    total = int(positives.sum())
    return PartitionReport(
        missing_asked=float(1 - supports.mean()),
        missing=float(missing.mean()),
        missing_by_site=tuple(missing.tolist()),
        dropped=1 - dealt / images if images else 0.0,
        hidden=float(positives[~visible].sum() / total) if total else 0.0,
        lonely_classes=tuple(np.flatnonzero(known & (held.sum(axis=0) < min(_HOMES, len(held)))).tolist()),
    )

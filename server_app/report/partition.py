"""How images with several labels were dealt to simulated sites, and how the sites are tested on them."""

from server_app.report.blocks import Block, Paragraph, Table
from server_app.report.page import DASH, percent
from server_app.report.record import RunRecord, number, numbers

_RULES = {
    "mask": (
        "an image goes to a site that has any of its classes, and labels of classes that the site misses are hidden "
        "there: no loss and no metric of the site knows them"
    ),
    "strict": "an image goes only to a site that has all of its classes, and nowhere if there is none",
}


def local_test(run: RunRecord) -> str:
    """Return how the sites of several labels are tested, as a sentence or two."""
    words = "Each site is measured on its own test images"
    if run.simulated and not run.sites_own_tests:
        words += (
            ", which no other site has: a test image is drawn to a site by the share of its labels' training images "
            "that the site holds, and a few may be the coordinator's alone"
        )
    return words + ". A site's thresholds for tuned F1 are from a fifth of its test images, its metrics from the rest."


def partition(run: RunRecord) -> list[Block]:
    """Return what was asked of the partition and what came out; nothing where that was not recorded."""
    dealt = run.federation.get("partition")
    if not isinstance(dealt, dict) or not run.simulated:
        return []
    by_site = [share for share in numbers(dealt.get("missing_by_site")) if share is not None]
    span = f", from {percent(min(by_site))} to {percent(max(by_site))}" if len(set(by_site)) > 1 else ""
    rows = [
        ["Classes that a site misses, mean over sites", percent(dealt.get("missing_asked")),
         percent(dealt.get("missing")) + span],
        ["Images that went to no site", DASH, percent(dealt.get("dropped"))],
        ["Labels hidden at the sites", DASH, percent(dealt.get("hidden"))],
        ["Classes at fewer than two sites", DASH, _lonely(run, dealt.get("lonely_classes"))],
    ]  # fmt: skip
    rule = str(run.config.get("label-rule"))
    blocks: list[Block] = []
    if run.config.get("partition") == "dirichlet" and rule in _RULES:
        blocks.append(
            Paragraph(f"Rule for images whose classes no single site has (label-rule): {rule}: {_RULES[rule]}.")
        )
    return [*blocks, Table("Training images dealt to the sites", ["Share", "Asked", "Achieved"], rows)]


def _lonely(run: RunRecord, found: object) -> str:
    indices = [int(c) for c in map(number, found if isinstance(found, list) else []) if c is not None]
    names = [run.classes[c] for c in indices if 0 <= c < len(run.classes)]
    return ", ".join(names) if names else "none"

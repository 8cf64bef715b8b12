"""What `fednc-site check` finds out before a site joins: about its images, its machine, and the way to the coordinator.

Nothing is sent to anyone. Every image is decoded, so that each one with a fault is named, not only the first.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client_app.preflight.coordinator import probe_coordinator
from client_app.preflight.images import ReadableImages, images_of_archive
from client_app.preflight.machine import check_disk, clock_warning, describe_cache, describe_device, time_batch
from client_app.preflight.round_time import expect_rounds
from client_app.site.config import SiteConfig
from client_app.site.data import agreed_channels, agreed_classes, load_site_data
from client_app.site.device import site_device
from client_app.site.listing import Image, Listing, Problem, list_images
from client_app.site.policy import check_class_sizes, check_policy
from common.config import Experiment
from common.data import Dataset, label_counts
from common.data.images.decode_all import format_bytes
from common.data.sources.animations import animation_notes
from common.errors import UserError
from common.methods import METHODS

Track = Callable[[Sequence[Image]], Iterable[Image]]


@dataclass
class Findings:
    """What was found at a site.

    Attributes:
        site: its name.
        problems: must be fixed before the site joins.
        warnings: may be intended.
        facts: JSON values: images, classes, device, batch, rounds, coordinator; those that were looked at.
    """

    site: str
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def warn(self, kind: str, reason: str) -> None:
        """Note something that may be as it should."""
        self.warnings.append(Problem(kind, "", reason))

    def attempt(self, kind: str, work: Callable[[], object]) -> bool:
        """Do some work; note its `UserError` as a problem. Returns whether there was none."""
        try:
            work()
        except UserError as error:
            self.problems.append(Problem(kind, "", str(error)))
            return False
        return True

    def examine(self, image: Image, work: Callable[[], None]) -> None:
        """Do some work on an image; note one that cannot be read."""
        try:
            work()
        except (UserError, OSError) as error:
            self.problems.append(Problem("image", image.place, str(error), image.row))

    def allow_bad_images(self, experiment: Experiment | None) -> None:
        """Make warnings of images that cannot be read where the experiment leaves so many out."""
        bad = [problem for problem in self.problems if problem.kind == "image"]
        if experiment is not None and len(bad) <= experiment.data.skip_bad_images:
            self.problems = [problem for problem in self.problems if problem.kind != "image"]
            self.warnings += bad

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {"site": self.site, "ok": not self.problems} | {
            "problems": [asdict(problem) for problem in self.problems],
            "warnings": [asdict(problem) for problem in self.warnings],
            **self.facts,
        }


def check_site(
    config: SiteConfig | None = None,
    experiment: Experiment | None = None,
    superlink: str = "",
    root_certificates: Path | None = None,
    track: Track = iter,
) -> Findings:
    """Look at everything that can go wrong at a site before it joins.

    Args:
        config: the site's; without one, only the way to the coordinator is looked at.
        experiment: the coordinator's; without one, classes, policy and model are not looked at.
        superlink: HOST:PORT of the coordinator; '' to leave it alone.
        root_certificates: the coordinator's CA, for `superlink`.
        track: wraps the images that are decoded, to show progress.
    """
    findings = Findings(config.name if config else "")
    if config:
        _check_own(findings, config, experiment, track)
    if superlink and root_certificates is not None:
        findings.attempt("coordinator", lambda: _check_coordinator(findings, superlink, root_certificates))
        if warning := clock_warning():
            findings.warn("clock", warning)
    return findings


def _check_own(findings: Findings, config: SiteConfig, experiment: Experiment | None, track: Track) -> None:
    findings.facts["data"] = str(config.data)
    if experiment is not None:
        _check_experiment(findings, config, experiment)
    # with an experiment that sites cannot follow, the images are looked at as without one
    agreed = experiment if "experiment" not in {problem.kind for problem in findings.problems} else None
    readable = ReadableImages(depth=agreed.data.depth if agreed else "percentile")
    if config.data.suffix.lower() == ".npz":
        if agreed is None:
            findings.warn("data", f"{config.data}: an archive is looked at with --experiment only")
        else:
            findings.attempt("data", lambda: _check_archive(findings, config, agreed, readable, track))
    else:
        findings.attempt("data", lambda: _check_files(findings, config, agreed, readable, track))
    _note_small(findings, readable, agreed)
    findings.attempt("disk", lambda: check_disk(config, _decoded_bytes(readable, agreed)))
    findings.facts["cache"] = describe_cache(config, _decoded_bytes(readable, agreed))
    if agreed is not None:
        dataset = _read_dataset(findings, config, agreed, readable)
        counts = findings.facts.get("classes", {})
        sizes = [of["train"] for of in counts.values()]
        findings.attempt("policy", lambda: check_class_sizes(config.policy, agreed, sizes))
        _check_machine(findings, config, agreed, dataset)


def _decoded_bytes(readable: ReadableImages, experiment: Experiment | None) -> int:
    if experiment is None or experiment.data.image_size is None:
        return 0
    return len(readable.images) * agreed_channels(experiment) * experiment.data.image_size**2


def _check_experiment(findings: Findings, config: SiteConfig, experiment: Experiment) -> None:
    if findings.attempt("experiment", lambda: agreed_classes(experiment)):
        findings.attempt("policy", lambda: check_policy(config.policy, experiment, METHODS[experiment.method]))


def _read_dataset(
    findings: Findings, config: SiteConfig, experiment: Experiment, readable: ReadableImages
) -> Dataset | None:
    """Return the images as training reads them, None where something is wrong; the first round finds them decoded."""
    found: list[Dataset] = []

    def read() -> None:
        found.append(load_site_data(config, experiment))
        _check_dataset(findings, found[0], readable)

    return found[0] if not findings.problems and findings.attempt("data", read) else None


def _check_machine(findings: Findings, config: SiteConfig, experiment: Experiment, dataset: Dataset | None) -> None:
    def examine() -> None:
        # what reaches a real site says auto, whatever the coordinator's own file says: see wire.experiment_json
        device = site_device(experiment.replace(device="auto"), config)
        findings.facts["device"] = describe_device(device, config)
        if config.device == "auto" and device.type == "cpu":
            findings.warn("device", "no GPU that PyTorch can use: this site trains on its CPU; see `nvidia-smi`")
        findings.facts["batch"] = time_batch(experiment, agreed_channels(experiment), device)
        if dataset is not None and len(dataset.train) and experiment.train_from is not None:
            _expect_rounds(findings, config, experiment, dataset, device)

    findings.attempt("device", examine)


def _expect_rounds(
    findings: Findings, config: SiteConfig, experiment: Experiment, dataset: Dataset, device: torch.device
) -> None:
    facts = findings.facts["rounds"] = expect_rounds(config, experiment, dataset, device)
    if facts["cache_bytes"] > facts["free_bytes"]:
        needed, free = format_bytes(facts["cache_bytes"]), format_bytes(facts["free_bytes"])
        findings.warn(
            "disk",
            f"cache = '{config.cache}': what stages before train-from make of the images takes {needed}, of {free} "
            "free: it will be kept in memory, or computed in every round; free space, or choose another folder",
        )


def _check_files(
    findings: Findings, config: SiteConfig, experiment: Experiment | None, readable: ReadableImages, track: Track
) -> None:
    classes = experiment.data.classes if experiment else None
    listing = list_images(config, classes, findings.problems.append)
    root = config.data if config.data.is_dir() else config.data.parent
    for note in (*listing.notes, *animation_notes([image.path for image in listing.images], root)):
        findings.warn("data", note)
    for image in track(listing.images):
        findings.examine(image, partial(readable.add_file, image))
    findings.allow_bad_images(experiment)
    findings.problems.sort(key=lambda problem: (problem.row or 0, problem.place))
    readable.note_copies(findings.problems.append, findings.warnings.append)
    _note_images(findings, readable, listing, classes)


def _check_archive(
    findings: Findings, config: SiteConfig, experiment: Experiment, readable: ReadableImages, track: Track
) -> None:
    stored = dict(images_of_archive(config))
    for image in track(list(stored)):
        findings.examine(image, partial(readable.add_stored, image, stored[image]))
    findings.allow_bad_images(experiment)
    readable.note_copies(findings.problems.append, findings.warnings.append)


def _note_small(findings: Findings, readable: ReadableImages, experiment: Experiment | None) -> None:
    if experiment and experiment.data.image_size:
        small = sum(number for size, number in readable.sizes.items() if min(size) < experiment.data.image_size)
        if small:
            findings.warn("size", f"{small} images are smaller than image-size {experiment.data.image_size}: enlarged")


def _note_images(
    findings: Findings, readable: ReadableImages, listing: Listing, classes: tuple[str, ...] | None
) -> None:
    images = readable.images
    splits = Counter(image.split for image in images)
    patients = {image.patient for image in images} - {""}
    labels = Counter((label, image.split) for image in images for label in image.labels)
    names = classes or listing.labelled or tuple(sorted({label for label, _ in labels}))
    counts = {name: {split: labels[name, split] for split in ("train", "test")} for name in names}
    findings.facts["images"] = {
        "train": splits["train"],
        "test": splits["test"],
        "patients": len(patients) or None,
        **_looks(readable),
        "several_labels": listing.multilabel,
    }
    findings.facts["classes"] = counts
    if classes is None and len(names) == 1:
        findings.warn("class", f"all images are of one class, '{names[0]}': other sites must have images of others")
    if listing.labelled is not None and classes and (without := [c for c in classes if c not in listing.labelled]):
        findings.warn("class", f"no column of {', '.join(without)}: not labelled at this site")
    _note_gaps(findings, counts, splits["test"])


def _looks(readable: ReadableImages) -> dict[str, Any]:
    sizes = [{"width": w, "height": h, "images": n} for (w, h), n in readable.sizes.most_common()]
    return {"colours": dict(readable.colours), "sizes": sizes}


def _note_gaps(findings: Findings, counts: dict[str, dict[str, int]], num_test: int) -> None:
    for split, what in (("train", "training"), ("test", "test")):
        if empty := [name for name, of in counts.items() if not of[split]]:
            findings.warn("class", f"no {what} images of {', '.join(empty)}")
    if not num_test:
        findings.warn("split", "no test images: this site's personal model cannot be judged here")


def _check_dataset(findings: Findings, dataset: Dataset, readable: ReadableImages) -> None:
    """Count what training will read; of an archive these are the only counts."""
    if "images" in findings.facts:
        return
    parts = {"train": dataset.train, "test": dataset.test}
    counts = {split: label_counts(part.labels, len(dataset.classes)) for split, part in parts.items()}
    groups = [rows for rows in (dataset.train_groups, dataset.test_groups) if rows is not None]
    findings.facts["images"] = {
        **{split: len(part) for split, part in parts.items()},
        "patients": len(np.unique(np.concatenate(groups))) if groups else None,
        **_looks(readable),
        "several_labels": dataset.multilabel,
    }
    findings.facts["classes"] = {
        name: {split: int(counts[split][c]) for split in parts} for c, name in enumerate(dataset.classes)
    }
    _note_gaps(findings, findings.facts["classes"], len(dataset.test))


def _check_coordinator(findings: Findings, superlink: str, root_certificates: Path) -> None:
    answer = probe_coordinator(superlink, root_certificates)
    findings.facts["coordinator"] = asdict(answer)
    for reason in answer.doubts:
        findings.warn("coordinator", reason)

"""What the sections say of a run: of its method, its sites, its tests and its refused replies."""

import json
import re
from pathlib import Path

import pytest
from made_up_run import dump, keep_events, report, report_with, write_run

from server_app.report.blocks import charts_of
from server_app.report.confusion import confusion
from server_app.report.record import read_run


def test_personal_arrival_stands_one_round_earlier(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path, rounds=12))
    rounds = {int(tip.split(", ")[1].split(":")[0]) for tip in page.tooltips if re.match(r"personal, \d", tip)}
    assert rounds == set(range(13))  # arrivals of rounds 1..12 at 0..11, the final metric at 12


@pytest.mark.undrawn
def test_no_personal_metrics_no_norms(tmp_path: Path) -> None:
    write_run(tmp_path)
    keep_events(tmp_path, lambda e: e["event"] not in ("personal", "norms"))
    _, page = report(tmp_path)
    assert "No accuracy of the sites was recorded." in page.text


def test_a_run_that_stopped_before_its_first_round_has_no_empty_sections(tmp_path: Path) -> None:
    write_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"event": "begin", "round": 0}\n')
    _, page = report_with(tmp_path, ("Results", "Frame geometry", "Sites", "Configuration and cost"))
    assert "This run has not finished its first round." in page.text
    assert "recorded" not in page.text and "No round" not in page.text


def test_sites_that_do_not_disclose_their_labels(tmp_path: Path) -> None:
    write_run(tmp_path)
    federation = json.loads((tmp_path / "federation.json").read_text())
    federation["simulated"] = False
    dump(tmp_path, federation=federation)
    _, page = report(tmp_path)
    assert "do not disclose" in page.text
    assert "only because this is a simulation" not in page.text
    assert not any("kind 0: 500 training images" in tip for tip in page.tooltips)


@pytest.mark.undrawn
def test_paper_form_of_the_local_test_is_named(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path, **{"local-test": "paper"}))
    assert "int(n_kc / N · n_test)" in page.text


def test_a_method_without_frame_or_personal_part_is_told_in_its_own_words(tmp_path: Path) -> None:
    write_run(tmp_path, method="fedavg")
    (tmp_path / "frame.json").unlink()
    keep_events(tmp_path, lambda e: e.get("head") in (None, "aux_head") and e.get("stage") != "realigned")
    path = tmp_path / "metrics.jsonl"
    path.write_text(re.sub(r', "(aux|personal)_head": [\d.]+', "", path.read_text()))
    path.write_text(re.sub(r', "(aux_head_realigned|frame)": \[[^]]*\]', "", path.read_text()))
    _, page = report(tmp_path, "Frame geometry")
    assert "after training (the generic model)" in page.text
    assert "after training, before fine-tuning" in page.text
    assert "backbone θ and head ψ" in page.text
    assert not [words for words in ("GA-FR", "LA-FR", "Fixed frame W", "by frame W") if words in page.text]


@pytest.mark.undrawn
def test_natural_sites_are_tested_on_their_own_images(tmp_path: Path) -> None:
    write_run(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    dump(tmp_path, config={**config, "dataset": "npz", "data-dir": "/data/skin.npz", "partition": "natural"})
    federation = json.loads((tmp_path / "federation.json").read_text())
    federation["num_test"] = sum(map(sum, federation["test_counts"]))
    dump(tmp_path, federation=federation)
    _, page = report(tmp_path)
    assert "those of all sites together" in page.text
    assert "Each site is measured on its own test images." in page.text
    assert "local-test)" not in page.text
    assert "data set: npz;" in page.text and "skin" not in page.text


def test_share_of_the_most_frequent_class_stands_beside_personal_accuracy(tmp_path: Path) -> None:
    write_run(tmp_path, num_classes=2, num_sites=2)
    federation = json.loads((tmp_path / "federation.json").read_text())
    federation["test_counts"] = [[9, 1], [3, 3]]
    dump(tmp_path, federation=federation)
    _, page = report(tmp_path)
    assert "gets right; mean over sites 70.0 %" in page.text
    assert "90.0 %" in page.text
    assert "always the most frequent class: 70.0 %" in page.tooltips
    assert "site-00, always the site's most frequent class: 90.0 %" in page.tooltips


def test_confusion_is_shares_of_each_true_class(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path))
    (event,) = read_run(tmp_path).of("generic", head="aux_head_realigned", stage="final")
    for true, answer, images in event["confusion"]:  # 20 images a class
        assert f"kind {true}, kind {answer}: {images / 20:.0%}".replace("%", " %") in page.tooltips
    made = sum(images for true, answer, images in event["confusion"] if true != answer)
    assert f"The most frequent mistakes: {made} of the {made} images that were answered wrongly" in page.text


def test_of_many_classes_those_in_most_mistakes_are_shown_and_every_answer_is_counted(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path, num_classes=90))
    (chart,) = charts_of(confusion(run))
    (event,) = run.of("generic", head="aux_head_realigned", stage="final")
    part = [0] * 90  # in how many mistakes a class is
    for true, answer, images in event["confusion"]:
        if true != answer:
            part[true] += images
            part[answer] += images
    shown = {int(str(row[0]).removeprefix("kind ")) for row in chart.rows}
    assert len(shown) == 40
    assert min(part[c] for c in shown) >= max(part[c] for c in range(90) if c not in shown)
    shares: dict[str, float] = {}
    for row in chart.rows:
        shares[str(row[0])] = shares.get(str(row[0]), 0.0) + float(row[2] or 0)
    assert [share for name, share in shares.items() if name != "kind 0"] == pytest.approx([1.0] * (40 - (0 in shown)))


@pytest.mark.undrawn
def test_a_run_of_before_confusion_was_recorded_has_no_section_of_it(tmp_path: Path) -> None:
    path = write_run(tmp_path) / "metrics.jsonl"
    path.write_text(re.sub(r', "(confusion|per_class)": (\[\[.*?\]\]|\{.*?\})', "", path.read_text()))
    _, page = report(tmp_path, "Confusion")
    assert "in each class at each site" not in page.text


def test_accuracy_in_each_class_is_of_the_sites_that_tell_it(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path))
    assert "Accuracy in each class at each site" in page.text
    told = read_run(tmp_path).site_class_accuracy("finetuned")
    tips = [tip for tip in page.tooltips if re.fullmatch(r"site-\d+, kind \d: \d+ %", tip)]
    assert sorted(tips) == sorted(
        f"{site}, kind {c}: {100 * v:.0f} %" for site, row in told.items() for c, v in enumerate(row) if v is not None
    )
    events = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for event in events:
        event["per_class"] = (
            {k: v for k, v in event["per_class"].items() if k == "site-03"}
            if "sites" in event and "per_class" in event
            else event.get("per_class")
        )
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, events)))
    _, page = report(tmp_path)
    sites = {tip[:7] for tip in page.tooltips if re.fullmatch(r"site-\d+, kind \d: \d+ %", tip)}
    assert sites == {"site-03"}


@pytest.mark.undrawn
def test_a_method_whose_heads_stay_at_the_sites_has_no_sections_of_generic_ones(tmp_path: Path) -> None:
    write_run(tmp_path, method="fedper")
    (tmp_path / "frame.json").unlink()
    keep_events(tmp_path, lambda e: e["event"] != "generic")
    path = tmp_path / "metrics.jsonl"
    path.write_text(re.sub(r'"heads": \{.*?\}', '"heads": {}', path.read_text()))
    report(tmp_path, "Accuracy by class", "Confusion", "Frame geometry", "Head norms")


@pytest.mark.undrawn
def test_every_rejected_reply_is_told(tmp_path: Path) -> None:
    write_run(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        for site in ("site-01", "site-02"):
            file.write(json.dumps({"event": "rejected", "round": 3, "site": site, "reason": f"{site} sent NaN"}) + "\n")
    _, page = report(tmp_path)
    assert "2 replies of sites could not be used" in page.text
    assert "site-01 sent NaN" in page.text and "site-02 sent NaN" in page.text


def test_a_site_without_test_images_stands_last(tmp_path: Path) -> None:
    write_run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for event in lines:
        if event["event"] == "personal":
            event["sites"]["site-00"] = {"accuracy": None, "num_test": 0}
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    _, page = report(tmp_path)
    bars = [tip for tip in page.tooltips if re.match(r"site-\d+: ", tip)]
    assert bars[-1] == "site-00: – of 0 images"


@pytest.mark.undrawn
def test_metrics_of_validation_images_are_called_so(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path, **{"evaluate-on": "validation"}))
    assert "The metrics on this page are of validation images" in page.text
    assert "validation images: 2,000" in page.text
    _, page = report(write_run(tmp_path))
    assert "are of validation images" not in page.text
    assert "test images: 2,000" in page.text

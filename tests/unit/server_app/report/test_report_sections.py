"""What the sections say of a run: of its method, its sites, its tests and its refused replies."""

import json
import re
from pathlib import Path

from made_up_run import dump, keep_events, report, write_run


def test_personal_arrival_stands_one_round_earlier(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path, rounds=12))
    rounds = {int(tip.split(", ")[1].split(":")[0]) for tip in page.tooltips if re.match(r"personal, \d", tip)}
    assert rounds == set(range(13))  # arrivals of rounds 1..12 at 0..11, the final metric at 12


def test_no_personal_figures_no_norms(tmp_path: Path) -> None:
    write_run(tmp_path)
    keep_events(tmp_path, lambda e: e["event"] not in ("personal", "norms"))
    _, page = report(tmp_path)
    assert "No accuracy of the sites was recorded." in page.text


def test_sites_that_do_not_disclose_their_labels(tmp_path: Path) -> None:
    write_run(tmp_path)
    federation = json.loads((tmp_path / "federation.json").read_text())
    federation["simulated"] = False
    dump(tmp_path, federation=federation)
    _, page = report(tmp_path)
    assert "do not disclose" in page.text
    assert "only because this is a simulation" not in page.text
    assert not any("kind 0: 500 training images" in tip for tip in page.tooltips)


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


def test_figures_of_validation_images_are_called_so(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path, **{"evaluate-on": "validation"}))
    assert "The figures on this page are of validation images" in page.text
    assert "validation images: 2,000" in page.text
    _, page = report(write_run(tmp_path))
    assert "are of validation images" not in page.text
    assert "test images: 2,000" in page.text

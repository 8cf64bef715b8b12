"""The table that a run prints last."""

import pytest

from server_app.run.summary import Summary


@pytest.mark.parametrize(("means", "words"), [({"macro_auc": 0.8}, "macro AUC of"), ({"accuracy": 0.8}, "accuracy of")])
def test_a_method_without_a_generic_model_is_told_in_the_sites_figure(means: dict[str, float], words: str) -> None:
    final = {"mean": 0.8, "std": 0.0, "worst": 0.8, "worst_site": "site-00", "means": means}
    assert Summary({}, {"final": final}, {}, {}).as_text().startswith(words)

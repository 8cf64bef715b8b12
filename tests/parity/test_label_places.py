"""The places of a chart's labels against scikit-learn's isotonic regression: moved apart, and no more than it takes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from server_app.report.charts.series import spread_labels


@given(st.lists(st.floats(-50, 400), min_size=1, max_size=20), st.floats(5, 17))
def test_labels_are_moved_as_little_as_possible(wanted: list[float], gap: float) -> None:
    """With y_i = i·gap + z_i, a distance of `gap` means that z ascends: the least squares are isotonic regression's."""
    wanted, low, high, steps = sorted(wanted), 20.0, 400.0, np.arange(len(wanted)) * gap
    fit = IsotonicRegression(y_min=low, y_max=high - steps[-1])
    expected = fit.fit_transform(np.arange(len(wanted)), np.array(wanted) - steps) + steps
    np.testing.assert_allclose(spread_labels(wanted, gap, low, high), expected, atol=1e-6)

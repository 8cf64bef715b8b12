"""Extras, and metrics of several labels an image, that are wrong, as hypothesis strategies."""

import numpy as np
from bad_replies import BEYOND, IMAGES, NEVER, PLACE, TESTED, array, bytes_of, many_losses, metric, placed, without
from hypothesis import strategies as st

COUNTS = np.array([3, 4], np.float32)
bad_extras = st.one_of(
    st.builds(
        lambda values: array("class_counts", lambda a: np.array(values, np.float32), record="extras"),
        st.tuples(*[st.floats(width=32)] * 2).filter(lambda v: sum(v) != IMAGES or min(v) < 0 or v[0] % 1)
        | st.lists(st.floats(width=32), max_size=1)
        | st.sampled_from([[-1, 8], [3.5, 3.5], [1e38, 1e38], [0, 0], [7, 0, 0]]),
    ),
    st.builds(
        lambda t: array("class_counts", lambda a: a.astype(t), record="extras"), st.sampled_from(["f8", "i8", "U2"])
    ),
    st.just(without("extras")),
    st.just(array("class_counts", lambda a: a, "class_gradients", record="extras")),
    st.builds(lambda b: array("class_counts", bytes_of(b), record="extras"), st.binary(max_size=40)),
)  # fmt: skip

GRADIENTS = np.linspace(-1, 1, 16, dtype=np.float32).reshape(2, 2, 4)
bad_gradients = st.one_of(
    st.builds(
        lambda v, p, e: array("class_gradients", placed(v, p, e), record="extras"), NEVER | BEYOND, PLACE, st.booleans()
    ),
    st.builds(
        lambda shape: array("class_gradients", lambda a: np.resize(a, shape), record="extras"),
        st.sampled_from([(), (16,), (2, 8), (2, 2, 5), (4, 2, 2), (2, 2, 4, 1), (0, 2, 4), (3, 3, 4)]),
    ),
    st.builds(
        lambda t: array("class_gradients", lambda a: a.astype(t), record="extras"), st.sampled_from(["f8", "f2", "i4"])
    ),
    st.just(without("extras")),
    st.just(array("class_gradients", lambda a: a, "class_counts", record="extras")),
    st.builds(lambda b: array("class_gradients", bytes_of(b), record="extras"), st.binary(max_size=40)),
)
bad_several = st.one_of(
    st.builds(
        lambda n, v: metric(f"{n}-arrival", v),
        st.sampled_from(["macro_auc", "micro_auc", "macro_f1", "mean_ap", "calibration_error", "auc_few"]),
        NEVER | st.floats(max_value=-1e-9) | st.floats(min_value=1.0001) | st.lists(st.floats(), max_size=2),
    ),
    st.builds(lambda v: metric("undefined_auc-arrival", v), NEVER | BEYOND | st.just(-1)),
    st.builds(lambda v: metric("hits-arrival", v), st.integers(0, TESTED)),
    st.builds(lambda v, s: metric(f"macro_auc-{s}", v), st.floats(0, 1), st.sampled_from(["final", "realigned", ""])),
    st.builds(many_losses, st.integers(8, 50)),
    st.just(without("metrics", "num-test")),
)

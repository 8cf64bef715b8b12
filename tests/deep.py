"""Which tests are of `make test-deep` alone: repeats of what `make test` has one of, containers, killed processes."""

import pytest

from common.methods import METHODS

_ALSO_QUICK = ("fedloge", "fednca_ml", "fedbn")  # of the methods on a pretrained backbone
# of whole runs by method: one of each way in which something is kept, sent beside weights, or made by the coordinator
_KINDS = (
    "fedavg",
    "fedbn",
    "ditto",
    "fedrod",
    "fedavg_la_global",
    "creff",
    "fedgrab",
    "fedloge",
    "fedloge_ml",
    "fedridge",
)
_OTHERS = tuple(name for name in METHODS if name not in _KINDS)
_SEVERAL = tuple(f"{name}-several" for name, row in METHODS.items() if row.labels == "any" and name not in _KINDS)
_DEEP_BACKBONES = (  # quick: a residual, a convolutional of late layers, two transformers, and one of fire modules
    *("maxvit_t", "vgg11", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf"),
    *("shufflenet_v2_x0_5", "mnasnet1_0", "googlenet"),
)

# by file: parts of a test's name, () for all of a file
DEEP: dict[str, tuple[str, ...]] = {
    "test_compose": (),
    "test_real_site_killed": (),
    "test_real_coordinator_killed": (),
    "test_run_life": (),
    "test_pretrained_engines": (),
    "test_killed": ("again_and_again", "test_killed_when["),
    "test_ray_simulation": ("worker_builds", "a_comparison", "by_hand", "heads_start"),
    "test_stopped_runs": (
        "ctrl_c_of_a_simulation",
        "takes_its_simulation_along",
        "comparison_by_flower",
        "terminal_that_closes",
    ),
    "test_provisioning": ("a_registered_site_joins", "clock_is_wrong_is_refused[-600]"),
    "test_resume": tuple(f"an_uninterrupted_one[{name}]" for name in _OTHERS),
    "test_every_method": (
        *(f"methods_promises[{name}]" for name in _SEVERAL),
        *(f"empty_one_take_part[{name}]" for name in (*_OTHERS, *_SEVERAL)),
    ),
    "test_export": ("any_batch[fedetf",),
    "test_library": ("a_comparison_gives", "readmes_example"),
    "test_wheel": ("shipped_experiment",),
    "test_extended_runs": ("longer_one[creff]",),
    "test_closed_output": ("[all closed]", "[pipe]", "[full]"),
    "test_standing": tuple(f"backbone_of_torchvision[{name}]" for name in METHODS if name not in _ALSO_QUICK),
    "test_trunk_cache": (
        *(f"the_run_without[{name}]" for name in METHODS if name not in _ALSO_QUICK),
        *(
            "the_features[torchvision:resnet18",
            "[torchvision:densenet121",
            "[torchvision:swin_t",
            "[torchvision:convnext",
        ),
        *("[torchvision:regnet", "company[torchvision:resnet18]"),
    ),
    "test_torchvision_backbones": tuple(f"own_model[{name}]" for name in _DEEP_BACKBONES),
    "test_timm_backbones": tuple(f"[{name}" for name in ("resnet10t", "convnext_atto", "efficientnet_lite0")),
    "test_bench": (*(f"measures_something[{part}]" for part in ("scale", "steps", "memory", "peer")), "peak_memory"),
    "test_report_page": ("other_sizes[300-90]",),
    "test_report_multilabel": ("other_sizes[300-90]",),
    "test_ascii_output": ("a_run_and_a_comparison", "speak_in_words[latin-1"),
    "test_compare": (
        "time_is_up",
        "leaves_nothing_to_the_next",
        "another_configuration_leaves",
        "of_other_data_or_code",
        "study_from_the_command",
    ),
    "test_readme": (
        "digits_lt.yaml --engine local]",
        "runs[fednc run scans.yaml]",
        "run configs/digits_multilabel.yaml]",
        "fednc compare scans.yaml",
        "rounds=100 seed=1]",
        "rounds=200]",
        "predict list.csv",
    ),
}
SAMPLE = ("[a site trains]", "[the checkpoint is half written]", "[the round is over]")  # of the moments of a kill
NAMED: dict[str, set[str]] = {}  # by file that was collected, the parts that are in the name of a test of it


def mark(item: pytest.Item) -> None:
    """Mark a test that is deep."""
    path = item.path.stem
    if path in DEEP:
        parts = {part for part in DEEP[path] if part in item.name}
        NAMED.setdefault(path, set()).update(parts)
        if (parts or not DEEP[path]) and not item.name.endswith(SAMPLE):
            item.add_marker(pytest.mark.deep)

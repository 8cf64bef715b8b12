"""The examples in docstrings: each is run, and what a notebook would call has one."""

import doctest
import pkgutil
from importlib import import_module

import pytest

import client_app
import common
import server_app

MODULES = [
    module.name
    for package in (common, client_app, server_app)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]
SHOWN = (
    *("common.config.reading.build", "common.data.sources.loading.load_dataset"),
    *("common.data.federation.build.build_federation", "common.data.federation.partition.dirichlet"),
    *("common.models.backbones.build_backbone", "common.metrics.groups", "common.multilabel_by_class.ranking_auc"),
    *(
        "server_app.frames.build.etf",
        "server_app.frames.build.sparse_etf",
        "server_app.generic.realign.realign_generic",
    ),
    *("client_app.methods.realign.realign_personal", "common.losses.compact_clustering.compact_clustering"),
    *("common.losses.negative_suppression.negative_suppression", "common.losses.bce.bce"),
    *("server_app.api.load", "server_app.api.run", "server_app.api.rows", "server_app.api.rounds"),
    *("client_app.api.load_model", "client_app.api.predict"),
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str) -> None:
    if name.endswith("fednc_start"):
        return  # a command's first lines
    assert doctest.testmod(import_module(name)).failed == 0


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_notebook_calls_has_an_example(name: str) -> None:
    module, _, function = name.rpartition(".")
    assert "Example:" in (getattr(import_module(module), function).__doc__ or "")

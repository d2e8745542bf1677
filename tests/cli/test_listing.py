"""The reference verbs: everything that exists is listed and described from the code itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nmc.ir.optable import dialect_ops, dialects
from nmc.passes.registry import standard_registry

Nmc = Callable[..., Any]


def test_all_passes_are_listed_with_levels(nmc: Nmc) -> None:
    done = nmc("passes")
    assert done.code == 0
    for name in standard_registry().entries:
        assert f"\n{name} " in done.out
    assert "@default:loihi" in done.out
    assert "ann -> snn" in done.out
    assert nmc("opt", "--list").out == done.out


def test_pass_is_described_with_options_types_and_defaults(nmc: Nmc) -> None:
    facts = nmc("passes", "calibrate", "--json").facts
    assert facts["schema"] == "nmc.passes/1"
    options = {item["name"]: item for item in facts["options"]}
    assert options["method"] == {
        "name": "method",
        "type": "mse | max | percentile | ltb | auto",
        "default": "mse",
    }
    assert options["limit"]["default"] == "0"
    assert "samples" not in options, "hidden options are not the command line's"
    text = nmc("passes", "calibrate").out
    assert "mse | max | percentile | ltb | auto" in text and "after:" in text


def test_pipeline_with_a_name_is_printed_pass_by_pass(nmc: Nmc) -> None:
    facts = nmc("passes", "@fold", "--json").facts
    assert facts["passes"] == ["fold-batchnorm", "fold-affine", "dead-code"]


def test_passes_of_a_file_are_described(nmc: Nmc, repo: Path) -> None:
    file = repo / "examples" / "passes" / "prune.py"
    assert "below" in nmc("passes", "prune", "--load-pass", file).out


def test_broken_plugin_is_listed_with_its_reason(nmc: Nmc, monkeypatch: pytest.MonkeyPatch) -> None:
    from nmc.passes.registry import Entry, Registry

    registry = Registry({"gone": (Entry("gone", "no_such_module:Gone", "plug-in x 1.0"),)})
    monkeypatch.setattr("nmc.cli.listing.registry_with", lambda files: registry)
    done = nmc("passes")
    assert done.code == 0
    assert "broken:" in done.out and "pass gone of plug-in x 1.0 does not load" in done.out


def test_all_ops_are_listed(nmc: Nmc) -> None:
    facts = nmc("ops", "--json").facts
    assert facts["schema"] == "nmc.ops/1"
    wanted = {name for dialect in dialects() for name in dialect_ops(dialect)}
    assert {item["name"] for item in facts["ops"]} == wanted
    assert all(item["summary"] for item in facts["ops"])


def test_dialect_is_listed_alone(nmc: Nmc) -> None:
    facts = nmc("ops", "snn", "--json").facts
    assert {item["name"].split(".")[0] for item in facts["ops"]} == {"snn"}


def test_op_is_described_with_operands_and_attributes(nmc: Nmc) -> None:
    facts = nmc("ops", "ann.conv", "--json").facts
    assert [item["name"] for item in facts["operands"]] == ["data", "weight", "bias"]
    assert [item["optional"] for item in facts["operands"]] == [False, False, True]
    defaults = {item["name"]: item["default"] for item in facts["attributes"]}
    assert defaults == {"stride": "required", "pad": "required", "dilation": "required", "groups": "1"}
    assert "checks: The bias has one element a channel." in nmc("ops", "ann.conv").out


def test_targets_are_listed(nmc: Nmc) -> None:
    facts = nmc("targets", "--json").facts
    found = {item["name"]: item for item in facts["targets"]}
    assert found["loihi"]["cores"] == 128 and "spinnaker2" in found


def test_target_is_described_with_the_source_of_every_limit(nmc: Nmc) -> None:
    from nmc.ir.target import resolve

    facts = nmc("targets", "loihi", "--json").facts
    assert {item["name"]: item["value"] for item in facts["limits"]} == dict(resolve("loihi").limits)
    assert all(item["source"] for item in facts["limits"])
    text = nmc("targets", "loihi").out
    for name in (*resolve("loihi").limits, *resolve("loihi").costs, "ranges.decay", "mesh.tiles_x"):
        assert f"\n{name} " in text


def test_own_chip_is_described_with_its_changes(nmc: Nmc, tmp_path: Path) -> None:
    (tmp_path / "chip.toml").write_text('base = "loihi"\nchips = 2\n[limits.compartments]\nvalue = 512\n')
    facts = nmc("targets", "chip.toml", "--json").facts
    assert facts["cores"] == 256
    assert {item["name"]: item["value"] for item in facts["limits"]}["compartments"] == 512

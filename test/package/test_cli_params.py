"""`laim params`: the one table, for people."""

from __future__ import annotations

import json

import pytest

from laim_ros.cli import main
from laim_ros.parameters import TABLES


def test_every_parameter_is_listed_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params"]) == 0
    shown = capsys.readouterr().out
    for node, table in TABLES.items():
        assert f"{node}\n" in shown
        for parameter in table:
            assert f"  {parameter.name}: {json.dumps(parameter.default)}  (" in shown
            assert parameter.description in shown


def test_one_node_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params", "edge"]) == 0
    assert "max_batch" in (shown := capsys.readouterr().out)
    assert "split_point" not in shown


def test_an_unknown_node_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["params", "cloud"]) == 2
    assert "'cloud'; nodes are robot, edge" in capsys.readouterr().err

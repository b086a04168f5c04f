"""The generated files are equal to the parameter tables, and the parameter file says what the tables say."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from laim_ros.parameter_docs import CONFIG, README, config_yaml, parameter_table, readme
from laim_ros.parameters import TABLES

ROOT = Path(__file__).parents[2]


def test_config_is_up_to_date() -> None:
    assert (ROOT / CONFIG).read_text(encoding="utf-8") == config_yaml(), "run `make params`"


def test_readme_is_up_to_date() -> None:
    text = (ROOT / README).read_text(encoding="utf-8")
    assert text == readme(text), "run `make params`"


def test_config_holds_every_default_in_its_type() -> None:
    nodes = yaml.safe_load(config_yaml())
    assert set(nodes) == {f"/**/{node}" for node in TABLES}
    for node, table in TABLES.items():
        values = nodes[f"/**/{node}"]["ros__parameters"]
        assert values == {parameter.name: parameter.default for parameter in table}
        assert {name: type(value) for name, value in values.items()} == {p.name: type(p.default) for p in table}


def test_table_shows_every_parameter() -> None:
    for node, table in TABLES.items():
        text = parameter_table(node)
        for parameter in table:
            assert f"| `{parameter.name}` |" in text
        assert {line.count("|") for line in text.splitlines()} == {6}


def test_a_readme_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the lines <!-- begin arguments -->"):
        readme("# laim_ros\n")

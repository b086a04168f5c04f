"""The parameter table: what each entry takes and refuses, and the plan that the robot's values make."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from laim_ros.parameters import TABLES, Parameter, ParameterValueError, check_template, plan_from
from laim_ros.plan import Plan, PlanError

EVERY = [(node, entry) for node, table in TABLES.items() for entry in table]
ROBOT = {entry.name: entry for entry in TABLES["robot"]}
DEFAULTS = {entry.name: entry.default for entry in TABLES["robot"]}


@pytest.mark.parametrize(("node", "entry"), EVERY, ids=lambda value: getattr(value, "name", value))
def test_every_entry_takes_its_own_default_and_says_what_it_is(node, entry):
    taken = entry.check(entry.default)
    assert taken == entry.default
    assert type(taken) is type(entry.default)
    assert entry.description.endswith(".")
    assert entry.minimum is None or type(entry.default) in (int, float)
    assert [other.name for other in TABLES[node]].count(entry.name) == 1


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("rate_hz", "fast", "rate_hz takes a number, not 'fast'"),
        ("rate_hz", True, "rate_hz takes a number"),
        ("rate_hz", -1.0, "rate_hz takes 0 … 1000, not -1"),
        ("rate_hz", 1000.5, "rate_hz takes 0 … 1000"),
        ("rate_hz", math.nan, "rate_hz takes 0 … 1000, not nan"),
        ("rate_hz", math.inf, "rate_hz takes 0 … 1000, not inf"),
        ("feature_bits", 9, "feature_bits takes one of 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, not 9"),
        ("feature_bits", 4.0, "feature_bits takes an integer, not 4.0"),
        ("num_threads", 257, "num_threads takes 0 … 256"),
        ("autostart", 1, "autostart takes true or false"),
        ("image_transport", "h264", "image_transport takes one of raw, compressed, not 'h264'"),
        ("model", None, "model takes a string"),
    ],
)
def test_refused_values_say_what_would_be_taken(name, value, reason):
    with pytest.raises(ParameterValueError, match=reason):
        ROBOT[name].check(value)


def test_an_integer_is_taken_where_a_float_is_asked_for():
    taken = ROBOT["rate_hz"].check(5)
    assert (taken, type(taken)) == (5.0, float)


def test_bounds_are_inclusive():
    assert ROBOT["rate_hz"].check(0.0) == 0.0
    assert ROBOT["rate_hz"].check(1000.0) == 1000.0


def test_lists_hold_strings():
    robots = next(entry for entry in TABLES["edge"] if entry.name == "robots")
    assert robots.check(("/r1", "r2")) == ["/r1", "r2"]
    assert robots.check([]) == []
    for wrong in ("r1", [1], None):
        with pytest.raises(ParameterValueError, match="robots takes a list of strings"):
            robots.check(wrong)


def test_bounds_in_words():
    assert Parameter("a", 1.0, "", 0.0, 60.0).bounds() == "0 … 60"
    assert Parameter("a", 1, "", minimum=0).bounds() == "0 or more"
    assert Parameter("a", "x", "", choices=("x", "y")).bounds() == "one of x, y"
    assert Parameter("a", "x", "").bounds() == ""


@pytest.mark.parametrize(
    ("changed", "plan"),
    [
        ({}, Plan("qformer", 32, 8, "plain")),
        ({"split_point": "vit.2", "feature_bits": 4}, Plan("vit.2", 32, 4, "plain")),
        ({"split_point": "input"}, Plan("input", 32, 8, "jpeg90")),
        ({"split_point": "input", "codec": "jpeg75"}, Plan("input", 32, 8, "jpeg75")),
        ({"split_point": "output", "weight_bits": 16}, Plan("output", 16, 8, "plain")),
    ],
)
def test_plan_of_the_robots_values(changed, plan):
    assert plan_from({**DEFAULTS, **changed}) == plan
    if plan.split_point in ("vit.2", "qformer"):
        assert plan_from({**DEFAULTS, **changed}, ("vit.2", "qformer")) == replace(plan, codec="klt")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"split_point": "vit.0"}, "'vit.0' is none of input, vit.K, vision, qformer, output"),
        ({"split_point": ""}, "is none of"),
        ({"codec": "jpeg75"}, "'jpeg75' does not code features.*codec auto fits every split point"),
        ({"split_point": "input", "codec": "plain"}, "'plain' does not code pictures.*jpeg90; codec auto fits"),
        ({"split_point": "input", "codec": "jpeg101"}, "quality from 1 to 100"),
    ],
)
def test_values_that_do_not_fit_each_other(changed, reason):
    with pytest.raises(PlanError, match=reason):
        plan_from({**DEFAULTS, **changed})


def test_question_template_holds_the_question_once():
    assert check_template("Q: {question} A:") == "Q: {question} A:"
    for wrong in ("", "Question:", "{question} {question}"):
        with pytest.raises(ParameterValueError, match=r"must hold {question} once"):
            check_template(wrong)

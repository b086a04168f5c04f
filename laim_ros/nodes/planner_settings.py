"""The planner's parameters as what they mean to `laim_ros.planning`; no ROS in here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TypeVar

from laim_ros.parameters import ParameterValue, ParameterValueError
from laim_ros.plan import BIT_WIDTHS, Plan, is_feature_codec, picture_format
from laim_ros.planning import Allowed, Goals

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """The live parameters.

    Attributes:
        mode: `auto` or `manual`.
        goals: what is wanted; `deadline_s` 0 stands for the robot's own.
        allowed: what may be chosen from.
        quality: path of the quality table; empty for the model's own.
        probe_period_s: for the robot.
    """

    mode: str
    goals: Goals
    allowed: Allowed
    quality: str
    probe_period_s: float

    @classmethod
    def read(cls, values: Mapping[str, ParameterValue]) -> PlannerSettings:
        """The settings in the planner's parameters.

        Raises:
            ParameterValueError: a list holds what no plan has; the message says what it takes.
        """
        return cls(
            mode=values["mode"],
            goals=Goals(**{item.name: values[item.name] for item in fields(Goals)}),
            allowed=Allowed(
                split_points=_each(values, "split_points", _split_point),
                weight_bits=_each(values, "weight_bits", _bits),
                feature_bits=_each(values, "feature_bits", _bits),
                codecs=_each(values, "codecs", _codec),
                clocks=values["clocks"],
            ),
            quality=values["quality"],
            probe_period_s=values["probe_period_s"],
        )


def _each(values: Mapping[str, ParameterValue], name: str, read: Callable[[str], _Item]) -> tuple[_Item, ...]:
    """The items of a list but for empty ones: ROS knows no list of strings without any."""
    try:
        return tuple(read(word) for word in map(str.strip, values[name]) if word)
    except ValueError as error:
        raise ParameterValueError(f"{name}: {error}") from None


def _split_point(word: str) -> str:
    return Plan(word, codec="jpeg90" if word == "input" else "plain").split_point


def _bits(word: str) -> int:
    if word not in map(str, BIT_WIDTHS):
        raise ValueError(f"'{word}' is none of {', '.join(map(str, BIT_WIDTHS))}")
    return int(word)


def _codec(word: str) -> str:
    if not is_feature_codec(word):
        picture_format(word)
    return word

"""Decisions in words: why this plan, and why not the others."""

from __future__ import annotations

import math

from laim_ros.plan import Plan, in_words
from laim_ros.planning.choices import Choices
from laim_ros.planning.design import Costs, Limits, Selection
from laim_ros.planning.forecast import LinkForecast
from laim_ros.planning.quality import uses_feature_bits


def seconds_in_words(value_s: float) -> str:
    """`38 ms`, `6.1 s`, `for ever`."""
    if math.isinf(value_s):
        return "for ever"
    return f"{value_s * 1e3:.0f} ms" if value_s < 1 else f"{value_s:.1f} s"


def joules_in_words(value_j: float) -> str:
    """`38 mJ`, `6.1 J`."""
    return f"{value_j * 1e3:.0f} mJ" if value_j < 1 else f"{value_j:.1f} J"


def bits_per_second_in_words(value_bps: float) -> str:
    """`1.2 Mbit/s`, `38 kbit/s`; `of unknown speed` for NaN."""
    if math.isnan(value_bps):
        return "of unknown speed"
    return f"{value_bps / 1e6:.1f} Mbit/s" if value_bps >= 1e6 else f"{value_bps / 1e3:.0f} kbit/s"


def link_in_words(link: LinkForecast, unanswered_s: float, silent_after_s: float) -> str:
    """The link in a few words."""
    if unanswered_s > silent_after_s:
        return f"link silent for {seconds_in_words(unanswered_s)}"
    return f"link {bits_per_second_in_words(link.goodput_bps)}" if link.known else "link unknown"


def short_name(plan: Plan) -> str:
    """`qformer at 4 bits`, `qformer at klt12`, `pictures as jpeg90`, `all on the robot`."""
    if plan.split_point == "output":
        return "all on the robot"
    if plan.sends_picture:
        return f"pictures as {plan.codec}"
    fineness = f"{plan.feature_bits} bits" if uses_feature_bits(plan) else plan.codec
    return f"{plan.split_point} at {fineness}"


def reason(link: str, chosen: int, best: int, choices: Choices, costs: Costs, limits: Limits) -> str:
    """One sentence: the link, what the chosen plan needs, and what keeps the one from being chosen that would be best.

    Args:
        link: the link in words.
        chosen, best: rows of the plan chosen, and of the one that would be without any limits.
    """
    name, rival = short_name(choices.plans[chosen]), short_name(choices.plans[best])
    if chosen != best and name == rival:  # they differ in what the short names leave out
        name, rival = in_words(choices.plans[chosen]), in_words(choices.plans[best])
    sentence = f"{link}: {name} needs {seconds_in_words(costs.delay_s[chosen])}"
    trouble = shortfall(best, costs, limits) if chosen != best else ""
    if trouble:
        return f"{sentence}, {rival} {trouble}"
    if limits.price_per_j and costs.energy_j[best] > costs.energy_j[chosen]:
        spent, saved = joules_in_words(costs.energy_j[chosen]), joules_in_words(costs.energy_j[best])
        return f"{sentence} and {spent}, {rival} would cost {saved}"
    if math.isfinite(limits.deadline_s):
        sentence += f" of {seconds_in_words(limits.deadline_s)}"
    energy_j = costs.energy_j[chosen]
    return f"{sentence}, {joules_in_words(energy_j)}" if energy_j > 0 else sentence


def shortfall(row: int, costs: Costs, limits: Limits) -> str:
    """Which limits a choice breaks, such as `610 ms of 400 ms`; empty if none."""
    found = []
    if costs.delay_s[row] > limits.deadline_s:
        found.append(f"{seconds_in_words(costs.delay_s[row])} of {seconds_in_words(limits.deadline_s)}")
    if costs.energy_j[row] > limits.energy_j:
        found.append(f"{joules_in_words(costs.energy_j[row])} of {joules_in_words(limits.energy_j)}")
    return " and ".join(found)


def rejection(row: int, chosen: int, selection: Selection, choices: Choices, costs: Costs, limits: Limits) -> str:
    """Why a choice was not taken, in a few words; `chosen` for the one that was."""
    if row == chosen:
        return "chosen"
    trouble = shortfall(row, costs, limits)
    if trouble:
        return f"needs {trouble}"
    # Against the best that keeps the limits, as `select` has it: the chosen one may be a little worse than that itself.
    worse = choices.quality_loss[row] - choices.quality_loss[selection.timely & selection.affordable].min(initial=1.0)
    if selection.feasible and worse > limits.quality_tolerance:
        return f"{100 * worse:.1f} points worse than the best"
    if limits.price_per_j and costs.energy_j[row] > costs.energy_j[chosen]:
        return f"costs {joules_in_words(costs.energy_j[row] - costs.energy_j[chosen])} more than its quality is worth"
    if costs.energy_j[row] > costs.energy_j[chosen]:
        return f"costs {joules_in_words(costs.energy_j[row] - costs.energy_j[chosen])} more"
    if costs.delay_s[row] > costs.delay_s[chosen]:
        return f"takes {seconds_in_words(costs.delay_s[row] - costs.delay_s[chosen])} longer"
    return f"no better than {in_words(choices.plans[chosen])}"

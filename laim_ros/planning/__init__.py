"""What to run where: theory, costs, quality, the joint design, and the policy for battery and link.

`planner.Planner` brings them together; `paper_design` holds the paper's own problem, solved exactly.
"""

from laim_ros.planning.choices import Allowed, Choices, build_choices
from laim_ros.planning.design import Costs, Limits, Selection, expected_costs, select
from laim_ros.planning.errors import PlanningError
from laim_ros.planning.forecast import LinkForecast, LinkForecaster
from laim_ros.planning.link import LinkEstimator
from laim_ros.planning.planner import Decision, Planner
from laim_ros.planning.policy import Battery, Goals
from laim_ros.planning.profiles import MachineProfile, PowerMode, StageTimes
from laim_ros.planning.quality import QualityRow, QualityTable, find_quality

__all__ = [
    "Allowed",
    "Battery",
    "Choices",
    "Costs",
    "Decision",
    "Goals",
    "Limits",
    "LinkEstimator",
    "LinkForecast",
    "LinkForecaster",
    "MachineProfile",
    "Planner",
    "PlanningError",
    "PowerMode",
    "QualityRow",
    "QualityTable",
    "Selection",
    "StageTimes",
    "build_choices",
    "expected_costs",
    "find_quality",
    "select",
]

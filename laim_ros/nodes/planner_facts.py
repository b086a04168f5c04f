"""What the planner knows of robot, edge and model: the newest profiles that can be read, and the quality table."""

from __future__ import annotations

from pathlib import Path

from laim_ros.planning import MachineProfile, Planner, PlanningError, QualityTable, find_quality
from laim_ros.records import Profile


class Facts:
    """Keeps what profiles tell, and hands it to a planner.

    A profile without times, or with damaged ones, leaves the one before it in force, unless it is of another model.
    """

    def __init__(self) -> None:
        self._profiles: dict[str, MachineProfile] = {}
        self._remarks: dict[str, str] = {}

    @property
    def remarks(self) -> list[str]:
        """What is wrong with the newest profiles, and what counts instead."""
        return [remark for remark in self._remarks.values() if remark]

    def take(self, who: str, profile: Profile) -> str:
        """Takes in a profile of `robot` or `edge`; returns what is wrong with it, or an empty string."""
        trouble = ""
        try:
            costs = MachineProfile.from_json(profile.costs) if profile.costs else None
            trouble = "" if costs is not None else f"the {who}'s profile of {profile.model} tells no times"
        except PlanningError as error:
            costs, trouble = None, f"the {who}'s profile of {profile.model} is damaged ({error})"
        kept = self._profiles.get(who)
        if costs is not None:
            self._profiles[who] = costs
        elif kept is not None and kept.model_id == profile.model_id:
            trouble += ": the one before counts"
        else:
            self._profiles.pop(who, None)
        self._remarks[who] = trouble
        return trouble

    def tell(self, planner: Planner, quality: str) -> str:
        """Hands everything to the planner.

        Args:
            quality: path of the quality table; empty looks for the model's own.

        Returns:
            What is told about the quality table, or an empty string where no robot is known.
        """
        robot = self._profiles.get("robot")
        if robot is None:
            planner.forget_profiles(self._remarks.get("robot") or "no profile of the robot has come yet")
            return ""
        table, words = _quality(quality, robot)
        planner.set_profiles(robot, self._profiles.get("edge"), table, "" if table is not None else words)
        return words


def _quality(path: str, robot: MachineProfile) -> tuple[QualityTable | None, str]:
    try:
        if not path:
            return find_quality(robot.model, robot.model_id)
        table = QualityTable.read(Path(path).expanduser())
    except (
        PlanningError,
        OSError,
        RuntimeError,
    ) as error:  # a folder that may not be entered, a home that is not known
        return None, f"{error}: plans are ranked by theory"
    return table, f"quality as measured on {table.frames} frames ({table.source})"

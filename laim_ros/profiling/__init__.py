"""What a loaded half of a model costs on this machine: every stage timed at start, and kept."""

from laim_ros.planning.kept import profile_cache
from laim_ros.profiling.measure import TEXT_TOKENS
from laim_ros.profiling.profile import OTHER_WIDTHS, profile_edge, profile_robot

__all__ = ["OTHER_WIDTHS", "TEXT_TOKENS", "profile_cache", "profile_edge", "profile_robot"]

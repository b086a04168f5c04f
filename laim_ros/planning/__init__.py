"""What to run where: the running picture of the link."""

from laim_ros.planning.link import LinkEstimator

__all__ = ["LinkEstimator"]

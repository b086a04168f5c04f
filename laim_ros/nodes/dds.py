"""DDS settings that images need, for every way in which a node may be started."""

from __future__ import annotations

import os

from laim_ros.paths import share_directory

_PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_OLD_NAME_UNTIL = ("humble", "iron", "jazzy")


def give_images_room() -> None:
    """Points Fast DDS to `config/fastdds.xml` (room for raw images in shared memory), before `rclpy.init`.

    Does nothing where another middleware is chosen, or where the user has a profile of their own.
    """
    if not os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp").startswith("rmw_fastrtps"):
        return
    if any(os.environ.get(variable) for variable in _PROFILE_VARIABLES):
        return
    profile = share_directory() / "config" / "fastdds.xml"
    old = os.environ.get("ROS_DISTRO", "") in _OLD_NAME_UNTIL
    os.environ[_PROFILE_VARIABLES[1 if old else 0]] = str(profile)

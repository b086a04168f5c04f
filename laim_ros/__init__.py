"""Co-inference of large vision-language models between a robot and an edge computer, over ROS 2."""

__version__ = "0.1.0"

"""Thin ROS 2 nodes over the plain parts of the package; the only folder that imports rclpy."""

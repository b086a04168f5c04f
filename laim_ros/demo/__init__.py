"""The demo: camera, robot and edge in processes of their own, watched, scored and summed up. Plain code, no ROS."""

"""The demo: camera, robot, edge and planner in processes of their own, watched, scored and summed up. Plain code, no ROS."""

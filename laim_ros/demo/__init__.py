"""The demo: camera, robot, edge and planner in processes of their own, watched, scored, summed up. No ROS in here."""

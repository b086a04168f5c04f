"""What a model's output is worth: caption metrics, and the quality of every way to run it. No ROS here."""

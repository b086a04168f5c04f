"""Scripts that make the checkpoints which ship with laim_ros. Not installed with the package."""

"""`python -m laim_ros.cli`: the `laim` command where it is not installed."""

from laim_ros.cli import main

raise SystemExit(main())

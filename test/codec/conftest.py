"""Makes `codec_streams` importable under pytest's importlib mode, and keeps hypothesis within the time of the suite."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# No deadline: other work on the machine must not fail a test. Derandomized: the suite gives the same result everywhere.
settings.register_profile("laim_codec", deadline=None, max_examples=150, derandomize=True)
settings.load_profile("laim_codec")

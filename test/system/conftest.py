"""Makes the helpers of the node tests importable here under pytest's importlib mode."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / folder) for folder in ("system", "nodes", "coinference")]

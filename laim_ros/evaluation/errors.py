"""`EvaluationError`: something that cannot be measured."""

from __future__ import annotations


class EvaluationError(ValueError):
    """Frames, texts or files that nothing can be measured with; the message names the thing and the fix."""

"""Split models: a large vision-language model as a list of named stages, of which each machine loads its part."""

from __future__ import annotations

from laim_ros.models.base import Generation, SplitModel, Stage
from laim_ros.models.errors import ModelError
from laim_ros.models.loading import load
from laim_ros.models.source import shipped_models

__all__ = ["Generation", "ModelError", "SplitModel", "Stage", "load", "shipped_models"]

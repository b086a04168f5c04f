"""The synthetic camera world: rooms and tabletops with true captions, questions, labels and motion.

    scene = sample_scene(7, "held_out")
    image = render(scene, 480, 640).image
    caption_truth("a red ball", scene)

To add a kind: a row in `vocabulary.py` and its parts in `shapes.py`. To add a relation or a wording: `language.py` and
`truth.py`. To add motion: a field in `Shot` (`stream.py`). numpy and OpenCV only: no torch, no ROS.
"""

from laim_ros.scenes.language import QUESTION_KINDS, Question, captions, questions
from laim_ros.scenes.render import Rendering, render
from laim_ros.scenes.sampling import sample_scene
from laim_ros.scenes.stream import SceneStream
from laim_ros.scenes.truth import Truth, caption_truth
from laim_ros.scenes.world import Scene, SceneError, SceneObject

__all__ = [
    "QUESTION_KINDS",
    "Question",
    "Rendering",
    "Scene",
    "SceneError",
    "SceneObject",
    "SceneStream",
    "Truth",
    "caption_truth",
    "captions",
    "questions",
    "render",
    "sample_scene",
]

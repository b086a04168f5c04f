"""Scenes as data: deterministic, split, and the same after a round trip through JSON."""

import itertools
import json

import pytest

from laim_ros.scenes import Scene, SceneError, SceneObject, sample_scene
from laim_ros.scenes.camera import extents, well_in_view
from laim_ros.scenes.vocabulary import COLOURS, KINDS

SCENES = [sample_scene(seed) for seed in range(300)]


def test_same_seed_same_scene() -> None:
    assert [sample_scene(seed) for seed in range(20)] == SCENES[:20]
    assert len(set(SCENES)) == len(SCENES)


def test_splits_share_no_scene() -> None:
    held_out = {sample_scene(seed, "held_out").objects for seed in range(300)}
    assert not held_out & {scene.objects for scene in SCENES}


def test_scenes_show_the_whole_vocabulary_with_one_and_two_objects() -> None:
    things = [thing for scene in SCENES for thing in scene.objects]
    assert {thing.kind for thing in things} == set(KINDS)
    assert len(KINDS) >= 4
    assert {thing.colour for thing in things} == set(COLOURS)
    assert len(COLOURS) == 8
    assert {len(scene.objects) for scene in SCENES} == {1, 2}
    assert {scene.background.place for scene in SCENES} == {"table", "room"}


def test_no_two_objects_of_a_scene_have_the_same_name() -> None:
    assert all(len({thing.name for thing in scene.objects}) == len(scene.objects) for scene in SCENES)


def test_objects_are_in_view_and_apart() -> None:
    for scene in SCENES:
        assert well_in_view(scene)
        boxes = sorted(extents(scene), key=lambda box: box.centre)
        assert all(a.right < b.left for a, b in itertools.pairwise(boxes))


def test_json_round_trip() -> None:
    for scene in SCENES[:50]:
        text = scene.to_json()
        assert "\n" not in text
        assert Scene.from_json(text) == scene


@pytest.mark.parametrize("text", ["", "7", "null", "[]", "{}", '{"objects": 3}', "not json"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(SceneError):
        Scene.from_json(text)


def test_json_of_an_unknown_kind_is_refused_by_name() -> None:
    data = json.loads(SCENES[0].to_json())
    data["objects"][0]["kind"] = "teapot"
    with pytest.raises(SceneError, match="teapot"):
        Scene.from_json(json.dumps(data))


def test_json_of_the_wrong_type_is_refused_by_name() -> None:
    for part, field, value in (
        ("camera", "zoom", "wide"),
        ("lighting", "tint", ["a", 1, 1]),
        ("background", "place", 3),
    ):
        data = json.loads(SCENES[0].to_json())
        data[part][field] = value
        with pytest.raises(SceneError, match=field):
            Scene.from_json(json.dumps(data))


@pytest.mark.parametrize("seed", [-1, 1.5, "7"])
def test_bad_seed_is_refused(seed: object) -> None:
    with pytest.raises(SceneError, match="seed"):
        sample_scene(seed)  # type: ignore[arg-type]


def test_bad_split_is_refused() -> None:
    with pytest.raises(SceneError, match="held_out"):
        sample_scene(1, "test")  # type: ignore[arg-type]


def test_bad_object_is_refused() -> None:
    with pytest.raises(SceneError, match="pink"):
        SceneObject("ball", "pink", 0, 0, 1, 1, 0, (1, 1, 1), 0)
    with pytest.raises(SceneError, match="size"):
        SceneObject("ball", "red", 0, 0, 0, 1, 0, (1, 0, 0), 0)

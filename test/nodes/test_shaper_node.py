"""The made-up slow link: what it does to packets by the clock, and the node around it."""

from __future__ import annotations

import math
import random
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from ros_harness import start_node
from sensor_msgs.msg import CompressedImage

from laim_ros.nodes import qos
from laim_ros.nodes.shaping import SlowLink

SHAPER = "laim_ros.nodes.shaper_node"
BPS = 8000.0
"""A byte per millisecond."""


def a_link(goodput_bps: float = BPS, burst_bytes: int = 1, latency_s: float = 0.0) -> SlowLink[str]:
    return SlowLink(goodput_bps, burst_bytes, latency_s, 0.0)


def arrivals(link: SlowLink[str], until_s: float, step_s: float = 0.001) -> list[tuple[float, str]]:
    """(time, item) of everything that arrives, looked at every so often as the node's thread may do."""
    found, now_s = [], link._at_s
    while now_s < until_s:
        now_s += step_s
        found += [(now_s, item) for _, item in link.take(now_s)]
    return found


def test_a_packet_takes_its_bytes_over_the_goodput_and_the_latency() -> None:
    link = a_link(burst_bytes=100, latency_s=0.05)
    link.put("f", "large", 500, 0.0)
    assert math.isclose(link.next_s, 0.4 + 0.05)  # a hundred bytes pass by the burst
    assert link.take(0.449) == []
    assert link.take(0.451) == [("f", "large")]
    link.put("f", "small", 60, 0.5)
    assert math.isclose(link.next_s, 0.55)  # the bucket has filled up since
    assert link.take(0.56) == [("f", "small")]
    assert link.next_s == math.inf
    link.put("f", "late", 500, 9.0)
    assert math.isclose(link.next_s, 9.0 + 0.4 + 0.05), "it holds no more than the burst, however long the pause"
    assert link.take(10.0) == [("f", "late")]
    link.put("f", "first", 60, 11.0)
    link.put("f", "second", 60, 11.0)
    assert link.take(11.051) == [("f", "first")]
    assert math.isclose(link.next_s, 11.0 + 0.02 + 0.05), "and what the first left is the second's"


def test_the_newest_packet_waits_and_replaces_the_older_one() -> None:
    link = a_link()
    for number in range(6):
        link.put("f", f"frame {number}", 1000, 0.1 * number)
    assert link.waiting == 2
    assert [item for _, item in arrivals(link, 3.0)] == ["frame 0", "frame 5"]
    assert (link.received, link.passed, link.replaced, link.waiting) == (6, 2, 4, 0)


def test_probes_and_packets_share_the_link_and_do_not_push_each_other_out() -> None:
    link = a_link()
    link.put("f", "frame", 1000, 0.0)
    link.put("p", "probe", 100, 0.1)
    link.put("f", "next frame", 1000, 0.2)
    for when_s, item in [(0.999, "frame"), (1.099, "probe"), (2.099, "next frame")]:  # the burst is one byte
        assert math.isclose(link.next_s, when_s)
        assert link.take(when_s + 1e-6) == [("f" if "frame" in item else "p", item)]


def test_in_an_outage_nothing_passes_and_after_it_the_newest() -> None:
    link = a_link()
    link.put("f", "half sent", 1000, 0.0)
    link.set(0.0, 1, 0.0, 0.5)
    assert link.next_s == math.inf
    link.put("f", "older", 1000, 1.0)
    link.put("f", "newest", 1000, 5.0)
    assert link.take(60.0) == []
    link.set(BPS, 1, 0.0, 60.0)
    assert arrivals(link, 62.0)[0][1] == "newest"
    assert link.replaced == 2


def test_a_sagging_link_goes_on_with_what_is_left() -> None:
    link = a_link()
    link.put("f", "frame", 1001, 0.0)
    link.set(BPS / 10, 1, 0.0, 0.5)
    assert math.isclose(link.next_s, 0.5 + 5.0)


@pytest.mark.parametrize("seed", range(5))
def test_never_more_passes_than_goodput_and_burst_allow(seed: int) -> None:
    draw = random.Random(seed)
    link, now_s, passed = a_link(burst_bytes=300), 0.0, []
    for _ in range(400):
        now_s += draw.expovariate(20.0)
        link.put(draw.choice("fp"), str(size := draw.randint(1, 400)), size, now_s)
        passed += [(now_s, int(item)) for _, item in link.take(now_s)]
    sent_bytes = sum(size for _, size in passed)
    assert sent_bytes <= now_s * BPS / 8 + 300
    assert sent_bytes >= 0.9 * now_s * BPS / 8, "and it is in use: more was offered than passes"
    assert link.received == link.passed + link.replaced + link.waiting + len(link._flying)


def test_the_node_passes_packets_and_probes_on_through_the_bucket(observer) -> None:
    topics = ("features", "probe")
    arrived = {topic: observer.subscribe(CompressedImage, f"/r/laim/{topic}", qos.PROBE) for topic in topics}
    diagnostics = observer.subscribe(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)

    def figures() -> dict[str, str]:
        mine = [m.status[0] for m in diagnostics if m.status[0].name == "/r/shaper" and m.status[0].values]
        return {pair.key: pair.value for pair in mine[-1].values} if mine else {"received": "0"}

    with start_node(SHAPER, namespace="r", parameters={"goodput_bps": 0.0}):
        features = observer.publisher(CompressedImage, "/r/laim/features_in", qos.FEATURES_OUT)
        probes = observer.publisher(CompressedImage, "/r/laim/probe_in", qos.PROBE)
        published = 0
        while int(figures()["received"]) < 2:  # what is published before the node has discovered us is lost
            published += 1
            assert published < 200
            features.publish(CompressedImage(format=f"frame {published}", data=bytes(5000)))
            time.sleep(0.3)
        told = figures()
        assert (int(told["dropped"]), told["passed"], told["waiting"]) == (int(told["received"]) - 1, "0", "1")
        assert not arrived["features"]
        assert observer.set_parameter("/r/shaper", "goodput_bps", 1e7).successful
        observer.wait_for(lambda: arrived["features"])
        assert arrived["features"][0].format == f"frame {published}"
        assert arrived["features"][0].data.tobytes() == bytes(5000)
        observer.wait_for(lambda: probes.publish(CompressedImage(format="probe", data=bytes(100))) or arrived["probe"])
        assert observer.change_state("/r/shaper", "deactivate")
        assert observer.change_state("/r/shaper", "activate")
        before = len(arrived["probe"])
        observer.wait_for(
            lambda: probes.publish(CompressedImage(format="again", data=b"")) or len(arrived["probe"]) > before
        )

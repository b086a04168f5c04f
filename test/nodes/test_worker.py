"""The worker thread: the newest item wins, one bad item costs one item, and it ends when told."""

from __future__ import annotations

import threading
import time
from queue import Queue

from laim_ros.nodes import worker as worker_module
from laim_ros.nodes.worker import NewestWins, ThrottledLog, Worker

LONG_S = 30.0


def ignore(*_: object) -> None:
    pass


def test_a_newer_item_takes_the_seat_of_its_key():
    room = NewestWins()
    assert room.put("a1", "a") is None
    assert room.put("b1", "b") is None
    assert room.put("a2", "a") == "a1"
    assert room.take(8) == ["a2", "b1"]  # a newer item keeps its place: nobody is starved


def test_those_who_wait_longest_go_first():
    room = NewestWins()
    for key in "abc":
        room.put(key.upper(), key)
    assert room.take(2) == ["A", "B"]
    assert room.take(2) == ["C"]


def test_take_waits_for_an_item_and_close_ends_it():
    room, taken = NewestWins(), Queue()
    taker = threading.Thread(target=lambda: [taken.put(room.take(1)) for _ in range(3)])
    taker.start()
    room.put("x")
    assert taken.get(timeout=LONG_S) == ["x"]
    room.close()
    assert taken.get(timeout=LONG_S) == []
    assert taken.get(timeout=LONG_S) == []
    taker.join(LONG_S)
    room.put("late")
    assert room.take(1) == []


def test_an_exception_costs_one_piece_of_work():
    done, errors = Queue(), Queue()

    def work(items):
        if items == ["bad"]:
            raise RuntimeError("a strange picture")
        done.put(items)

    worker = Worker(work, lambda items, error: errors.put((items, str(error))))
    worker.waiting.put("bad")
    assert errors.get(timeout=LONG_S) == (["bad"], "a strange picture")
    worker.waiting.put("good")
    assert done.get(timeout=LONG_S) == ["good"]
    worker.stop()
    assert errors.empty()


def test_the_thread_survives_even_those_who_are_told(capsys):
    done = Queue()

    def work(items):
        done.put(items)
        raise RuntimeError("a strange picture")

    def failed(_items, _error):
        raise KeyError("the topic is gone")

    worker = Worker(work, failed)
    for item in ("one", "two"):
        worker.waiting.put(item)
        assert done.get(timeout=LONG_S) == [item]
    worker.stop()
    assert "the topic is gone" in capsys.readouterr().err


def test_what_waits_together_is_worked_on_together():
    gate, batches = threading.Event(), Queue()

    def work(items):
        batches.put(items)
        gate.wait(LONG_S)

    worker = Worker(work, ignore, most=lambda: 2)
    worker.waiting.put("first")
    assert batches.get(timeout=LONG_S) == ["first"]
    for key in "abc":
        worker.waiting.put(key + "1", key)
    worker.waiting.put("a2", "a")
    gate.set()
    assert batches.get(timeout=LONG_S) == ["a2", "b1"]
    assert batches.get(timeout=LONG_S) == ["c1"]
    worker.stop()


def test_stop_finishes_the_work_in_hand_and_drops_what_waits():
    gate, begun, done = threading.Event(), threading.Event(), []

    def work(items):
        begun.set()
        gate.wait(LONG_S)
        done.extend(items)

    worker = Worker(work, ignore)
    worker.waiting.put("in hand")
    assert begun.wait(LONG_S)
    worker.waiting.put("waiting")
    stopper = threading.Thread(target=worker.stop)
    stopper.start()
    while not worker._stopping:
        time.sleep(0.001)
    gate.set()
    stopper.join(LONG_S)
    assert done == ["in hand"]
    assert not worker._thread.is_alive()


def test_stop_ends_a_pause_and_an_idle_worker():
    for pause_s in (0.0, 3600.0):
        worker = Worker(ignore, ignore, pause_s=lambda pause_s=pause_s: pause_s)
        worker.waiting.put("item")
        worker.stop()
        assert not worker._thread.is_alive()


def test_a_pause_that_was_shortened_ends_at_once():
    done, pause_s = Queue(), [3600.0]
    worker = Worker(done.put, ignore, pause_s=lambda: pause_s[0])
    worker.waiting.put("item")
    pause_s[0] = 0.0
    worker.wake()
    assert done.get(timeout=LONG_S) == ["item"]
    worker.stop()


def test_many_threads_may_complain_at_once():
    told = []
    log = ThrottledLog(told.append, period_s=0.0)
    threads = [threading.Thread(target=lambda: [log(f"{n}") for n in range(2000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG_S)
    assert told


class Clock:
    """Stands in for `time` in the module under test."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


def test_a_flood_of_one_message_is_logged_once_per_period(monkeypatch):
    clock, lines = Clock(), []
    monkeypatch.setattr(worker_module, "time", clock)
    log = ThrottledLog(lines.append, period_s=10.0)
    for _ in range(1000):
        log("bad packet")
    log("bad image")
    assert lines == ["bad packet", "bad image"]
    clock.now_s = 10.5
    log("bad packet")
    assert lines[2:] == ["999 more such messages in the last 10 s", "bad packet"]
    for number in range(5):
        log(f"{number} bytes do not fit", figures_matter=False)
    assert lines[4:] == ["0 bytes do not fit"]


def test_a_flood_of_different_messages_is_limited_too(monkeypatch):
    clock, lines = Clock(), []
    monkeypatch.setattr(worker_module, "time", clock)
    log = ThrottledLog(lines.append, period_s=10.0, most=5)
    for number in range(1000):
        log(f"packet {number} is bad")
    assert len(lines) == 5
    clock.now_s = 11.0
    log("another")
    assert lines[5:] == ["995 more such messages in the last 11 s", "another"]

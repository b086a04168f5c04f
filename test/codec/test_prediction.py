"""Which frame a predictive stream's next one may refer to: only what was confirmed, and none after a loss."""

from __future__ import annotations

from laim_ros.codec.prediction import MOST_IN_A_ROW, References

STANDING, QUESTION = 11, 22


def send(references: References, *sequences: int, stream_id: int = STANDING) -> list[int | None]:
    """Sends frames; what each may refer to."""
    found = []
    for sequence in sequences:
        found.append(references.next(stream_id))
        references.sent(stream_id, sequence, found[-1])
    return found


def confirmed(*sequences: int) -> References:
    """After so many frames, all of them confirmed."""
    references = References()
    for sequence in sequences:
        send(references, sequence)
        references.confirmed(sequence)
    return references


def test_frames_refer_to_the_newest_that_was_confirmed():
    references = References()
    assert send(references, 5, 6, 7) == [None, None, None]
    references.confirmed(5)
    references.confirmed(6)
    assert send(references, 8, 9) == [6, 6]
    references.confirmed(7)
    assert send(references, 10) == [7]


def test_after_a_frame_that_was_not_answered_one_comes_by_itself():
    references = confirmed(1)
    assert send(references, 2, 3, 4) == [1, 1, 1]
    references.confirmed(3)  # so the second is lost
    assert send(references, 5, 6) == [None, 3], "at once, and once"
    references.confirmed(4)
    references.confirmed(5)
    assert send(references, 7) == [5]


def test_a_loss_is_mended_by_what_was_sent_by_itself_after_it():
    references = confirmed(1)
    assert send(references, 2, 3) == [1, 1]
    references.lost(2)
    assert send(references, 4) == [None]
    references.lost(3)  # sent before the fourth
    assert send(references, 5) == [1]
    references.lost(4)
    assert send(references, 6) == [None], "but not where that is lost itself"


def test_a_frame_that_one_edge_refuses_and_another_decodes_may_be_referred_to():
    references = confirmed(1)
    send(references, 2)
    references.lost(2)
    references.lost(2)
    references.confirmed(2)
    assert send(references, 3, 4) == [None, 2]


def test_a_packet_too_damaged_to_tell_its_number_counts_for_every_stream():
    references = confirmed(1)
    send(references, 2, stream_id=QUESTION)
    references.confirmed(2)
    references.lost()
    assert (references.next(STANDING), references.next(QUESTION)) == (None, None)


def test_a_question_leaves_the_standing_stream_as_it_was():
    references = confirmed(1)
    assert send(references, 2, stream_id=QUESTION) == [None]
    references.confirmed(2)
    assert send(references, 3) == [1]
    assert send(references, 4, stream_id=QUESTION + 1) == [None]
    references.lost(4)
    references.confirmed(3)
    assert send(references, 5) == [3], "nor does it matter here whether an answer was lost"


def test_one_frame_in_sixteen_comes_by_itself_whatever_is_confirmed():
    references, found = References(), []
    for sequence in range(50):
        found += send(references, sequence)
        references.confirmed(sequence)
    alone = [sequence for sequence, reference in enumerate(found) if reference is None]
    assert alone == [0, 16, 32, 48]
    assert MOST_IN_A_ROW == 15


def test_numbers_start_over_and_strange_ones_mean_nothing():
    last = 2**32 - 1
    references = confirmed(last - 1)
    assert send(references, last, 0, 1) == [last - 1] * 3
    references.confirmed(0)
    assert send(references, 2) == [None], f"{last} is lost"
    references.confirmed(1)
    assert send(references, 3) == [1]
    for strange in (-1, 77, last):
        references.confirmed(strange)
        references.lost(strange)
    assert send(references, 4) == [1]


def test_what_is_never_answered_is_forgotten():
    references = confirmed(0)
    send(references, *range(1, 1000))
    for stream_id in range(100, 150):
        send(references, 1000 + stream_id, stream_id=stream_id)
    assert sum(len(stream.waiting) for stream in references._streams.values()) < 100
    references.confirmed(1)
    assert send(references, 5000) == [None], "of a stream that was forgotten nothing is known"

"""Inputs that fuzzing has found worth keeping (`make fuzz`): each goes through the decoders, none breaks them."""

import pytest

from bench.fuzz_codec import CORPUS, decode_anything, seeds


def test_the_corpus_breaks_nothing():
    kept = [path.read_bytes() for path in sorted(CORPUS.iterdir())]
    assert len(kept) > 100
    decoded = [decode_anything(data) for data in kept]
    assert 20 < sum(decoded) < len(decoded) - 20


@pytest.mark.parametrize("data", seeds(), ids=lambda data: f"{data[0]}-{len(data)}")
def test_what_fuzzing_begins_with_decodes(data):
    assert decode_anything(data)

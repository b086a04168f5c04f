"""The entropy coder's state as one Python integer: nothing is lost between symbols, and less than a byte at the end.

Asymmetric numeral systems [Duda, arXiv 1311.2540]: coding a symbol of probability p takes the state from x to about
x/p, and decoding undoes that, so it meets symbols in the reverse order of coding. Coding starts at 0 and decoding must
end there. Up to 64 bytes the payload is x itself. Beyond, x stays within 2**256 … 2**512, so that no step takes longer
than another: its lowest 32 bytes move out or in.

Whether a level is 0 is coded by the variant uABS, where the x-th zero among the naturals lies as near to x/p as it
can: that holds for small x too, so that a payload of one byte does not take two. Everything else is rANS: a symbol of
frequency f that begins at c, out of a total of 2**n, makes x ← ⌊x/f⌋ · 2**n + c + x mod f.
"""

from __future__ import annotations

from collections.abc import Callable

from laim_ros.codec.errors import CodecError
from laim_ros.codec.probabilities import PRECISION_BITS, TOTAL

_SLOT_MASK = TOTAL - 1
_WORD_BYTES = 32
_WORD_BITS = 8 * _WORD_BYTES
_WORD_MASK = (1 << _WORD_BITS) - 1
_LOW = 1 << _WORD_BITS
_ROOM_BITS = 2 * _WORD_BITS
_SYMBOL_ROOM_BITS = _ROOM_BITS - PRECISION_BITS
_SYMBOL_ROOM = 1 << _SYMBOL_ROOM_BITS


class Sink:
    """The state while it takes symbols in, the last one that will be read first."""

    def __init__(self, tail: bytes = b"") -> None:
        """Empty, or with bytes to which `Source.tail` will come back once everything else is read."""
        self._words: list[bytes] = []
        self._value = 0
        if tail:
            # A one on top says where the head ends; whole words follow it.
            head = len(tail) if len(tail) < _WORD_BYTES else _WORD_BYTES + len(tail) % _WORD_BYTES
            self._value = 1 << 8 * head | int.from_bytes(tail[:head], "little")
            self._words.append(tail[head:])

    def push(self, start: int, frequency: int, bits: int) -> None:
        """Take in one symbol, out of a total of 2**bits."""
        value = self._value
        if value >= frequency << _ROOM_BITS - bits:
            value = self._spill(value)
        self._value = (value // frequency << bits) + start + value % frequency

    def push_symbols(self, zeros: list[int], choices: list[tuple[int, int] | None]) -> None:
        """Take in what `Source.pop_symbols` will give out.

        Args:
            zeros: frequency, out of `TOTAL`, of the symbol 0.
            choices: None for that symbol, else start and frequency, out of `TOTAL`, of one that is known not to be 0.
        """
        value = self._value
        for zero, choice in zip(reversed(zeros), reversed(choices), strict=True):
            if choice is None:
                if value >= _SYMBOL_ROOM and value >= zero << _SYMBOL_ROOM_BITS:
                    value = self._spill(value)
                value = (value << PRECISION_BITS) // zero
                continue
            start, frequency = choice
            if value >= _SYMBOL_ROOM and value >= frequency << _SYMBOL_ROOM_BITS:
                value = self._spill(value)
            value += value // frequency * (TOTAL - frequency) + start
            rest = TOTAL - zero
            if value >= _SYMBOL_ROOM and value >= rest << _SYMBOL_ROOM_BITS:
                value = self._spill(value)
            value = ((value + 1 << PRECISION_BITS) - 1) // rest
        self._value = value

    def to_bytes(self) -> bytes:
        """All of it."""
        head = self._value.to_bytes((self._value.bit_length() + 7) // 8, "little")
        return b"".join((head, *reversed(self._words)))

    def _spill(self, value: int) -> int:
        self._words.append((value & _WORD_MASK).to_bytes(_WORD_BYTES, "little"))
        return value >> _WORD_BITS


class Source:
    """The state while it gives symbols out."""

    def __init__(self, payload: bytes | memoryview) -> None:
        """State at the beginning of a payload.

        Raises:
            CodecError: its head ends in a zero byte, which no writer leaves there.
        """
        size = len(payload)
        self._payload = payload
        # A writer's last state is below 2**512, and at least 2**256 where words have moved out.
        self._position = size if size <= 2 * _WORD_BYTES else _WORD_BYTES + 1 + (size - 1) % _WORD_BYTES
        if size and not payload[self._position - 1]:
            raise CodecError("levels: padded with zeros")
        self._value = int.from_bytes(payload[: self._position], "little")
        self._low = _LOW if self._position < size else 0

    def slot(self, bits: int) -> int:
        """Which of 2**bits places the next symbol's is."""
        return self._value & (1 << bits) - 1

    def pop(self, start: int, frequency: int, bits: int) -> None:
        """Give out the symbol that holds the slot."""
        value = (self._value >> bits) * frequency + self.slot(bits) - start
        self._value = self._refill(value) if value < self._low else value

    def pop_raw(self, bits: int) -> int:
        """The next symbol, of 2**bits equally likely ones."""
        raw = self.slot(bits)
        self.pop(raw, 1, bits)
        return raw

    def pop_symbols(
        self, zeros: list[int], choose: Callable[[int, int], tuple[int, int, int]]
    ) -> tuple[list[int], list[int]]:
        """Give out one symbol for each element of `zeros`: where those lie that are not 0, and which they are.

        Args:
            zeros: frequency, out of `TOTAL`, of the symbol 0.
            choose: from a place and a slot out of `TOTAL` to the symbol there, which is not 0, its start and frequency.
        """
        places, symbols = [], []
        value, low = self._value, self._low
        for place, zero in enumerate(zeros):
            # The naturals below x hold ⌈x·zero/TOTAL⌉ zeros: this is one if x itself adds to their number.
            product = value * zero + _SLOT_MASK
            if product & _SLOT_MASK >= TOTAL - zero:
                value = product >> PRECISION_BITS
            else:
                value -= product >> PRECISION_BITS
                if value < low:
                    value = self._refill(value)
                    low = self._low
                slot = value & _SLOT_MASK
                symbol, start, frequency = choose(place, slot)
                value = (value >> PRECISION_BITS) * frequency + slot - start
                places.append(place)
                symbols.append(symbol)
            if value < low:
                value = self._refill(value)
                low = self._low
        self._value = value
        return places, symbols

    def tail(self) -> memoryview:
        """What is left, which `Sink` began with.

        Raises:
            CodecError: it did not begin with bytes.
        """
        head, rest = divmod(self._value.bit_length() - 1, 8)
        if rest:
            raise CodecError("levels: damaged, no tail where one must be")
        tail = (self._value ^ 1 << 8 * head).to_bytes(head, "little") + self._payload[self._position :]
        self._value, self._position = 0, len(self._payload)
        return memoryview(tail)

    def end(self) -> None:
        """Check that nothing is left.

        Raises:
            CodecError: there is more.
        """
        if self._value or self._position < len(self._payload):
            raise CodecError("levels: more bytes than the levels take")

    def _refill(self, value: int) -> int:
        word = self._payload[self._position : self._position + _WORD_BYTES]
        self._position += _WORD_BYTES
        if self._position >= len(self._payload):
            self._low = 0
        return value << _WORD_BITS | int.from_bytes(word, "little")

"""Random damage to bytes: cut, flipped, overwritten, extended, moved, with huge numbers where lengths stand."""


def mutated(data, dice):
    """A version of `data` that differs from it; `dice` is a `random.Random`."""
    while True:
        changed = bytearray(data)
        for _ in range(dice.choice((1, 1, 1, 2, 5))):
            dice.choice(_CHANGES)(changed, dice)
        if changed != data:
            return bytes(changed)


def _position(data, dice):
    # Headers and ends hold what matters: half of all changes go there.
    last = max(0, len(data) - 1)
    return dice.choice((dice.randint(0, last), min(dice.randint(0, 40), last), max(0, last - dice.randint(0, 8))))


def _cut(data, dice):
    del data[_position(data, dice) :]


def _cut_front(data, dice):
    del data[: dice.randint(1, 8)]


def _remove(data, dice):
    start = _position(data, dice)
    del data[start : start + dice.randint(1, 16)]


def _flip(data, dice):
    if data:
        data[_position(data, dice)] ^= 1 << dice.randrange(8)


def _overwrite(data, dice):
    start = _position(data, dice)
    value = dice.choice((b"\xff" * 2, b"\xff" * 4, b"\xff" * 8, b"\0" * 4, b"\x7f\xff", b"\xff\xd9", dice.randbytes(4)))
    data[start : start + len(value)] = value


def _insert(data, dice):
    start = _position(data, dice)
    data[start:start] = dice.randbytes(dice.randint(1, 32))


def _extend(data, dice):
    data += dice.choice((dice.randbytes(dice.randint(1, 64)), bytes(data), bytes(1000)))


def _repeat(data, dice):
    start, source = _position(data, dice), _position(data, dice)
    data[start : start + 16] = data[source : source + 16]


_CHANGES = (_cut, _cut_front, _remove, _flip, _flip, _flip, _overwrite, _overwrite, _insert, _extend, _repeat)

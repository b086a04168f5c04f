"""Streams and tensors that the codec's tests share."""

import numpy as np
from hypothesis import strategies as st

from laim_ros.codec import WIRE_VERSION, StreamDescription
from laim_ros.plan import Plan

ALL_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)


def feature_stream(shape, bits, codec="plain", **fields):
    return StreamDescription(
        wire=WIRE_VERSION,
        robot="robot",
        model_id="0123abcd",
        plan=Plan(feature_bits=bits, codec=codec),
        shape=tuple(shape),
        **fields,
    )


def klt_stream(calibration, shape, codec="klt", bits=4, **fields):
    """A stream by codec `klt`; `calibration` is that of its features."""
    return feature_stream(shape, bits, codec=codec, calibration=calibration.digest, **fields)


def picture_stream(height, width, quality=90):
    plan = Plan(split_point="input", codec=f"jpeg{quality}")
    return StreamDescription(wire=WIRE_VERSION, robot="robot", model_id="0123abcd", plan=plan, shape=(height, width, 3))


def bell_shaped(shape, seed=0, outliers=False):
    """float32 values as a layer norm gives them; with outliers, one channel in fifty is thirty times larger."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(shape)
    if outliers:
        values[..., ::50] *= 30
    return values.astype(np.float32)


def photograph(height, width):
    """A smooth colour picture with edges, uint8 RGB."""
    y, x = np.mgrid[0:height, 0:width]
    picture = np.stack(
        (x * 255 // max(1, width - 1), y * 255 // max(1, height - 1), (x // 8 + y // 8) % 2 * 200), axis=2
    )
    return picture.astype(np.uint8)


shapes = st.lists(st.integers(1, 24), min_size=1, max_size=4).map(tuple)

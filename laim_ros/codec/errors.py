"""The one error of this folder."""


class CodecError(ValueError):
    """Bytes, a tensor or a stream description that cannot be coded or decoded.

    The message names what is wrong and, where it helps, the fix.
    """

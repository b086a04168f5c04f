"""The one error of this folder."""


class CodecError(ValueError):
    """Bytes, a tensor or a stream description that cannot be coded or decoded; the message names what and, where it helps, the fix."""

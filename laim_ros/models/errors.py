"""The one error of this folder."""


class ModelError(ValueError):
    """A model that cannot be loaded or used as asked; the message names what is wrong and the fix."""

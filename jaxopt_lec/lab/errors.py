"""What can go wrong with a study, and is not a mistake of the library."""

__all__ = ["InputError", "LostProcessError"]


class InputError(ValueError):
    """What the user asked for cannot be done; the message says what and why in one line."""


class LostProcessError(RuntimeError):
    """Another process of the same program is gone; the message says what is left and how to go on."""

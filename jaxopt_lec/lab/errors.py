"""The one error type for what a person gave us and we cannot use."""


class InputError(ValueError):
    """Something the user gave cannot be used; the message says what and where, in one line."""

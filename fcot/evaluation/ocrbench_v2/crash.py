"""Where the official script stops."""


class Crash(ValueError):
    """The official script stops at such a row, and with it the whole run; the message says why."""

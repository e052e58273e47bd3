"""A clock that a test moves, for code that is given one."""


class Clock:
    """Seconds, from 1000 on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

"""A password that cannot slip into a log, a table or a traceback."""


class Secret:
    """Holds text; shows ``***`` wherever it is printed. ``reveal()`` is the only way out."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself, for the one call that needs it."""
        return self._text

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

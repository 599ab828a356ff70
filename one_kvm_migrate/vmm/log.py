"""Log lines as OpenNebula's drivers read them from stderr.

``INFO: <action>: text`` and ``ERROR: <action>: text`` go to the virtual machine's log. A line
without such a prefix becomes the error message that users see; there is at most one.
"""

import sys
from typing import TextIO


class Log:
    """Writes one line per message and never fails: the reader may be gone already."""

    def __init__(self, action: str, stream: TextIO | None = None) -> None:
        self._action = action
        self._stream = stream

    def info(self, text: str) -> None:
        """Something the administrator may want to know later."""
        self._line(f"INFO: {self._action}: {_one_line(text)}")

    def error(self, text: str) -> None:
        """Details of a failure, for the log."""
        self._line(f"ERROR: {self._action}: {_one_line(text)}")

    def sentence(self, text: str) -> None:
        """The one plain line that becomes the error message of the virtual machine."""
        self._line(_one_line(text))

    def _line(self, text: str) -> None:
        stream = self._stream or sys.stderr
        try:
            stream.write(text + "\n")
            stream.flush()
        except OSError:
            return  # ssh is gone; the action still has to be finished


def _one_line(text: str) -> str:
    return " ".join(text.split())

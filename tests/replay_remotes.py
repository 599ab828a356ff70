"""A driver that answers what the recorded one answered, and remembers how it was called."""

import base64
import re
from dataclasses import dataclass
from pathlib import Path

SCRIPT = """\
#!/bin/sh
# Answers the next recorded call of this action; keeps argv and stdin of ours.
action=$(basename "$0")
count=$(($(cat "{calls}/$action.count" 2>/dev/null || echo 0) + 1))
echo "$count" > "{calls}/$action.count"
name=$action.$(printf %02d "$count")
mkdir "{calls}/$name"
for word in "$@"; do printf '%s\\n' "$word"; done > "{calls}/$name/argv"
cat > "{calls}/$name/stdin"
cat "{recordings}/$name/stderr" >&2
cat "{recordings}/$name/stdout"
exit "$(cat "{recordings}/$name/rc")"
"""


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """How a script was called, here or when it was recorded."""

    name: str
    argv: list[str]
    stdin: str


@dataclass(frozen=True, slots=True)
class Remotes:
    """Writes scripts below *root* that answer from *recordings* and keep their *calls*."""

    root: Path
    recordings: Path
    calls: Path

    def write(self, where: str, family: str, *only: str) -> None:
        """Scripts for the recorded actions of *family* (or *only* some) in directory *where*."""
        directory = self.root / where
        directory.mkdir(parents=True)
        calls = self.calls / family
        calls.mkdir(parents=True)
        recordings = self.recordings / family
        for action in only or sorted({entry.stem for entry in recordings.iterdir()}):
            script = directory / action
            script.write_text(SCRIPT.format(calls=calls, recordings=recordings))
            script.chmod(0o755)


def load_calls(directory: Path) -> dict[str, ScriptCall]:
    """All calls below *directory*, by name such as ``deploy.02``."""
    return {
        entry.name: ScriptCall(
            entry.name,
            (entry / "argv").read_text().splitlines(),
            (entry / "stdin").read_text(),
        )
        for entry in sorted(directory.iterdir())
        if entry.is_dir()
    }


def plain(text: str) -> str:
    """*text*, decoded if it is one long Base64 word (documents on a command line)."""
    data = text.strip()
    if re.fullmatch(r"[A-Za-z0-9+/=]{200,}", data):
        return base64.b64decode(data).decode()
    return data

"""What a trial shows where the values of records may not leave the site: what they look like, never what they are.

"SHP-0815" becomes "AAA-9999". Names of columns are structure and stay, but for a file whose first line is no header:
what does not look like a name is shown by its shape too.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from crossdock_agent.guessing.files import FileGuess
from crossdock_agent.trial import Rejected, Trial

WITHHELD = "(not shown: the site's policy)"
LONGEST = 80
_NAME = re.compile(r"[^\W\d][\w .#/()%$:-]{0,63}")


def of_trial(trial: Trial) -> Trial:
    """*trial* without any value that was read."""
    return msgspec.structs.replace(
        trial,
        names=[name_or_shape(name) for name in trial.names],
        rows=[[shape(value) for value in row] for row in trial.rows],
        rejects=[Rejected(reject.record, reject.code, WITHHELD, "") for reject in trial.rejects],
        checkpoint=WITHHELD if trial.checkpoint is not None else None,
        file=of_file(trial.file) if trial.file is not None else None,
    )


def of_file(guess: FileGuess) -> FileGuess:
    guesses = [msgspec.structs.replace(found, reason="") for found in guess.guesses]
    columns = [msgspec.structs.replace(c, name=name_or_shape(c.name), reason="") for c in guess.columns]
    return FileGuess(guesses, columns, [])


def shape(value: Any) -> Any:
    """Letters as "A" and "a", digits as "9"; other kinds by their name, containers by what is in them."""
    if isinstance(value, str):
        text = "".join(_sign(char) for char in value[:LONGEST])
        return text + ("..." if len(value) > LONGEST else "")
    if isinstance(value, dict):
        return {name_or_shape(str(key)): shape(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shape(item) for item in value]
    if isinstance(value, bytes):
        return f"({len(value)} bytes)"
    if value is None:
        return None
    return "true or false" if isinstance(value, bool) else shape(str(value))


def name_or_shape(name: str) -> str:
    return name if _NAME.fullmatch(name) or re.fullmatch(r"\(\d+\)", name) else shape(name)


def _sign(char: str) -> str:
    if char.isdigit():
        return "9"
    if char.isalpha():
        return "A" if char.isupper() else "a"
    return char if char.isprintable() and char.isascii() else "?"

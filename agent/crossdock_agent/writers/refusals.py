"""Whether a database refused one document (a value that does not fit, a constraint, a trigger's word), or cannot be
used now. By SQLSTATE class (ISO/IEC 9075: 22 data, 23 integrity) or SQLite's kinds of error."""

from __future__ import annotations

import sqlite3

from crossdock.errors import Rejected

_RAISED = ("45000", "P0001", "72000")  # by a trigger or procedure, on purpose
_DATA = ("22", "23", "44")


def refusal_of(error: BaseException) -> Rejected | None:
    """The refusal of a document that *error* stands for; None when it says nothing of the document."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.IntegrityError | sqlite3.DataError):
        return Rejected("constraint", f"the database refuses it: {cause}")
    if cause is None or isinstance(cause, sqlite3.Error) or len(cause.args) < 2:
        return None
    state, said = str(cause.args[0]), str(cause.args[1])
    if state.startswith(_DATA) or state in _RAISED:
        return Rejected("constraint", f"the database refuses it: {said} [SQLSTATE {state}]")
    return None

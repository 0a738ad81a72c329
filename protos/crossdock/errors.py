"""The error tree both sides share. A class says what the caller does next; the message says what a person does next."""

from __future__ import annotations

# What msgspec raises for bytes that are not what they should be: its DecodeError is a ValueError, so is that of a text
# that is no UTF-8, and what is nested too deep is the third.
UNREADABLE = (ValueError, RecursionError)


class CrossdockError(Exception):
    """Root of every error this project raises on purpose.

    *hint* is the operator's next step, a whole sentence or a command; it is shown after the message.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class ConfigError(CrossdockError):
    """A setting is wrong. Nothing was started or changed."""


class Retryable(CrossdockError):  # noqa: N818 - names the verdict, as the callers read it
    """Not now: the same call may work later. The caller's policy decides when, but not before *after_seconds*."""

    def __init__(self, message: str, *, hint: str = "", after_seconds: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.after_seconds = after_seconds


class SourceUnavailable(Retryable):
    """A folder or database cannot be reached now. Nothing was read; the checkpoint stays."""


class SinkUnavailable(Retryable):
    """The sink gave no verdict. Whether it applied the delivery is unknown; it will be sent again with the same key."""


class ControllerUnavailable(Retryable):
    """The controller cannot be reached now. The outbox keeps everything."""


class Rejected(CrossdockError):  # noqa: N818
    """This one record or document will never be accepted as it is; it becomes a dead letter.

    *code* is a stable word for programs and grouping (`bad_decimal`); *field* names the field at fault, if one is.
    """

    def __init__(self, code: str, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.field = field


class Refused(CrossdockError):  # noqa: N818
    """The other side understood and said no: a token used twice, a stranger's certificate, a revoked agent."""


class Corrupt(CrossdockError):  # noqa: N818
    """Stored or received bytes are not what was written."""


class BufferCorrupt(Corrupt):
    """The outbox file is damaged. It is set aside and a new epoch begins."""


class BufferFull(Retryable):
    """The outbox is at its limit. Reading stops; the source keeps its data."""

"""`tests/*.yaml`: an input and what a mapping is to make of it. Only what is named is compared, unless `exact`."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_RECORDS = 10_000
MAX_DOCUMENTS = 1_000
MAX_INPUT_BYTES = 1024 * 1024

ColumnType = Literal["text", "integer", "decimal", "float", "boolean", "date", "time", "datetime", "datetimetz"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ExpectedDocument(_Strict):
    """One document, in the order in which they come."""

    document: str | None = Field(default=None, description="its entity: Shipment")
    key: str | None = Field(default=None, description="its business key")
    records: int | None = Field(default=None, ge=1, description="of how many records it is made")
    fields: dict[str, Any] = Field(default={}, description="values of its fields, lists in order; `null` is no value")
    warnings: list[str] | None = Field(default=None, description="texts, one to stand in each warning, in order")


class ExpectedDead(_Strict):
    """One dead letter, in the order in which they come."""

    code: str = Field(description="the word for programs: unknown_code")
    field: str | None = Field(default=None, description="the field at fault")
    reason: str | None = Field(default=None, description="a text that stands in its reason")
    records: int | None = Field(default=None, ge=1, description="how many records it holds")


class ExpectedCounts(_Strict):
    """How much of each there is."""

    records: int | None = Field(default=None, ge=0, description="records in the input")
    documents: int | None = Field(default=None, ge=0, description="documents")
    dead: int | None = Field(default=None, ge=0, description="records in dead letters")
    ignored: int | None = Field(default=None, ge=0, description="records that the mapping leaves out")
    warnings: int | None = Field(default=None, ge=0, description="warnings of all documents")


class Expected(_Strict):
    """What is to come of the input; at least one of the three."""

    documents: list[ExpectedDocument] | None = Field(
        default=None, max_length=MAX_DOCUMENTS, description="all documents, in order"
    )
    dead: list[ExpectedDead] | None = Field(
        default=None, max_length=MAX_DOCUMENTS, description="all dead letters, in order; without it there must be none"
    )
    counts: ExpectedCounts | None = Field(default=None, description="how many")

    @model_validator(mode="after")
    def _says_something(self) -> Expected:
        if self.documents is None and self.dead is None and self.counts is None:
            raise ValueError("says nothing: name documents, dead or counts")
        return self


class MappingTest(_Strict):
    """A test of a mapping: `tests/*.yaml`."""

    test: str = Field(min_length=1, description="its name, unique; the file's name without .yaml unless given")
    mapping: str | None = Field(default=None, description="the mapping that is tested")
    source: str | None = Field(default=None, description="... or the source whose mapping is tested")
    site: str | None = Field(default=None, description="as at this site; without it the first by name that has it")
    file: str = Field(default="sample", min_length=1, description="the name that the input has as a file, or a table")
    input: str | None = Field(default=None, description="text of a file, written in the encoding of the source")
    input_base64: str | None = Field(default=None, description="... or the bytes of a file, in base64")
    rows: list[dict[str, Any]] | None = Field(
        default=None, max_length=MAX_RECORDS, description="... or rows of a table: column and value"
    )
    columns: dict[str, ColumnType] = Field(default={}, description="types of columns of `rows`; text without")
    known: dict[str, list[str]] | None = Field(
        default=None, description="keys that are known, by document, for `known` rules; without it all are"
    )
    exact: bool = Field(default=False, description="fields that are not named must not be there")
    expected: Expected = Field(description="what is to come of it")

    @field_validator("input_base64")
    @classmethod
    def _is_base64(cls, text: str | None) -> str | None:
        if text is not None:
            try:
                base64.b64decode("".join(text.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise ValueError(f"is no base64: {error}") from error
        return text

    @model_validator(mode="after")
    def _is_whole(self) -> MappingTest:
        if (self.mapping is None) == (self.source is None):
            raise ValueError("give 'mapping' or 'source', one of both: which mapping is tested?")
        if sum(given is not None for given in (self.input, self.input_base64, self.rows)) != 1:
            raise ValueError("give one of 'input', 'input_base64' and 'rows'")
        if self.columns and self.rows is None:
            raise ValueError("'columns' are types for 'rows'; a file's columns are told by its format")
        return self

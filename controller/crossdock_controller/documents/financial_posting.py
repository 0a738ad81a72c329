"""FinancialPosting: a journal entry: lines of debit and credit that add up to nothing."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from crossdock_controller.documents.base import About, Document, Line, Money, join_key, register


class PostingLine(Line, frozen=True, gc=False):
    """One account. Debit and credit are both positive; a line has one of them."""

    account: str
    debit: Money | None = None
    credit: Money | None = None
    number: str = ""
    cost_center: str = ""
    party: str = ""
    settles: str = ""
    tax_code: str = ""
    text: str = ""

    ABOUT: ClassVar[About] = {
        "account": "| | | AccountID",
        "debit": "| | | DebitAmount",
        "credit": "| | | CreditAmount",
        "number": "of the line | | | LineID",
        "cost_center": "| | | AnalysisID",
        "party": "number of customer or supplier | | | CustomerID, SupplierID",
        "settles": "the open item it closes | RMR02 | DOC 1004 | SourceDocumentID",
        "tax_code": "| TXI01 | TAX 5153 | TaxCode",
        "text": "| | FTX | Description",
    }


@register
class FinancialPosting(Document, frozen=True, gc=False):
    """What was posted to a ledger."""

    ledger: str
    number: str
    lines: tuple[PostingLine, ...] = ()
    journal: str = ""
    posted_on: date | None = None
    period: str = ""
    kind: str = ""
    reference: str = ""
    text: str = ""
    status: str = ""

    ABOUT: ClassVar[About] = {
        "ledger": "company or book | | | AccountingEntity",
        "number": "of the entry | | | JournalEntry/ID",
        "journal": "| | | JournalCode",
        "posted_on": "| | DTM+209 | PostingDate",
        "period": "fiscal, such as 2026-11 | | | PeriodIdentifier",
        "kind": "in the ledger's words | | | SourceJournal",
        "reference": "the document it is for | | RFF | DocumentReference",
        "text": "| | FTX | Description",
        "status": "| | |",
    }

    def key(self) -> str:
        parts = (self.ledger, self.journal, self.number)
        return join_key(self.issuer, *parts) if self.issuer else join_key(*parts)

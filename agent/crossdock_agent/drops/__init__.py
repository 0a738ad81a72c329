"""What a source of files needs beside its settings: identity, settling, the ledger, reading, and what is done after."""

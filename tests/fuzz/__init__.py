"""Fuzzing: bytes of strangers into every reader of such bytes; only this project's own errors may come out.

`make fuzz SECONDS=600` runs all targets in turn. What a target found is kept in `corpus/TARGET`, small; what broke one
is kept in `crashes/TARGET`, and replayed with every test run for ever after (test_corpus.py).
"""

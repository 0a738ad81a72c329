"""The use cases that command line, API and console share: typed answers, no printing, no SQL.

Every function takes the data directory (and the time, where it matters), opens what it needs and closes it again.
"""

"""The controller's state: everything but the raw batches. Only this folder contains SQL.

Functions take an open connection (`connection.connect`); those that must be one transaction with others do not open one
themselves and say so. Times are microseconds since the epoch, UTC.
"""

from crossdock_controller.store.schema import migrate

__all__ = ["migrate"]

"""What agent and controller must agree on: the wire, the batch codec, errors, retry arithmetic, TLS, lifecycle."""

__version__ = "0.1.0"

"""The demo: a small distributor's busy day, told in the terminal, with real processes on this machine alone.

It proves itself: what the business made is counted where it is made, and compared with what every system holds.
"""

from crossdock_controller.demo.run import Options, run_demo

__all__ = ["Options", "run_demo"]

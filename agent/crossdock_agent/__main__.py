"""`python -m crossdock_agent`: the same as `crossdock-agent`."""

from crossdock_agent.cli import main

main()

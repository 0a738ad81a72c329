"""`python -m crossdock_controller`: the same as `crossdock`."""

from crossdock_controller.cli import main

if __name__ == "__main__":
    main()

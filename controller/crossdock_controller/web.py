"""The process of the admin API: `python -m crossdock_controller.web --data DIR --listen HOST:PORT`.

A process of its own: what it does, and whatever becomes of it, no delivery waits for. It ends on a signal, and when its
standard input closes, as workers do.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import click
from loguru import logger

from crossdock import telemetry
from crossdock.errors import CrossdockError
from crossdock.lifecycle import Stop, stop_on_signals
from crossdock_controller.apisettings import OidcSettings
from crossdock_controller.paths import DataDirectory


@click.command()
@click.option("--data", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option("--holder", default="", help="Id of the controller it belongs to.")
@click.option("--listen", required=True)
@click.option("--name", "names", multiple=True, help="A name of its certificate.")
@click.option("--certificate", default="")
@click.option("--key", default="")
@click.option("--oidc-issuer", default="")
@click.option("--oidc-audience", default="")
@click.option("--oidc-claim", default="sub")
@click.option("--oidc-ca", default="")
def run(
    data: Path,
    holder: str,
    listen: str,
    names: tuple[str, ...],
    certificate: str,
    key: str,
    oidc_issuer: str,
    oidc_audience: str,
    oidc_claim: str,
    oidc_ca: str,
) -> None:
    """Serve until standard input closes."""
    telemetry.configure("web", level=os.environ.get("CROSSDOCK_LOG_LEVEL", "INFO"))
    stop = Stop()
    stop_on_signals(stop)
    threading.Thread(target=_leave_with_parent, args=(stop,), name="leash", daemon=True).start()
    oidc = OidcSettings(oidc_issuer, oidc_audience, oidc_claim, oidc_ca) if oidc_issuer else None
    try:
        _serve(DataDirectory(data, holder), listen, names, (certificate, key), oidc, stop)
    except (CrossdockError, OSError) as error:
        logger.warning("the API ends and will be started again: {}", error)
        sys.exit(1)


def _serve(
    data: DataDirectory,
    address: str,
    names: Sequence[str],
    files: tuple[str, str],
    oidc: OidcSettings | None,
    stop: Stop,
) -> None:
    from crossdock_controller.api import app, certificate, serving
    from crossdock_controller.api.identify import Identifier
    from crossdock_controller.api.oidc import Issuer

    context = certificate.new_context()
    shown: certificate.FromAuthority | certificate.FromFiles
    if files[0]:
        shown = certificate.FromFiles(context, Path(files[0]), Path(files[1]))
    else:
        shown = certificate.FromAuthority(context, data.authority, names)
    api = app.Api(Identifier(data, Issuer(oidc) if oidc is not None else None))
    with serving.listen(address) as listener:
        url = serving.publish(data.api, listener)
        logger.bind(url=url, pid=os.getpid()).info("the API is up")
        serving.serve(app.make(api), listener, context, shown.renew, stop)
    logger.info("the API ended")


def _leave_with_parent(stop: Stop) -> None:
    # By descriptor: a buffered read in a daemon thread would hold its lock through the interpreter's shutdown.
    try:
        while os.read(0, 1024):
            pass
    except OSError as error:
        logger.warning("standard input cannot be read, ending: {}", error)
    stop.set()


def main(arguments: Sequence[str] | None = None) -> None:
    run.main(args=list(arguments) if arguments is not None else None, prog_name="web")


if __name__ == "__main__":
    main()

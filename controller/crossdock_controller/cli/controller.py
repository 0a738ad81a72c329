"""`crossdock controller run`: the gateway and its workers, until told to stop."""

from __future__ import annotations

import click

from crossdock_controller.apisettings import ApiSettings, OidcSettings
from crossdock_controller.cli.options import Size, data_option, require_data
from crossdock_controller.paths import DataDirectory


@click.group()
def controller() -> None:
    """The controller: one for all sites."""


@controller.command()
@data_option
@click.option("--listen", default="0.0.0.0:7443", show_default=True, metavar="HOST:PORT", help="Where agents connect.")
@click.option(
    "--enroll-listen", default="0.0.0.0:7444", show_default=True, metavar="HOST:PORT", help="Where new agents enrol."
)
@click.option("--advertise", default="", metavar="HOST", help="The name agents reach it by. [default: this host's]")
@click.option(
    "--certificate-hours", type=click.FloatRange(min=0.001), default=24.0, show_default=True, metavar="N",
    help="Life of an agent's certificate; it is renewed at two thirds.",
)  # fmt: skip
@click.option(
    "--retention-days", type=click.FloatRange(min=0.0), default=14.0, show_default=True, metavar="N",
    help="How long raw batches are kept, to normalize them again.",
)  # fmt: skip
@click.option(
    "--min-free-disk", type=Size(), default="1 GiB", show_default=True, metavar="SIZE",
    help="Left free on the disk of the data: below it nothing is taken in, below half of it nothing is normalized.",
)  # fmt: skip
@click.option(
    "--round-seconds", type=click.FloatRange(min=1.0), default=60.0, show_default=True, metavar="N",
    help="As long as mapping a few batches may take, before the batch at fault is looked for and set aside.",
)  # fmt: skip
@click.option(
    "--grace-days", type=click.FloatRange(min=0.0), default=30.0, show_default=True, metavar="N",
    help="How long after its certificate ended an agent that was away comes back by itself.",
)  # fmt: skip
@click.option(
    "--approve-enrolments",
    is_flag=True,
    help="Each new agent waits until a person says 'crossdock agents approve NAME', whatever its token says.",
)
@click.option(
    "--api-listen", default="127.0.0.1:7445", show_default=True, metavar="HOST:PORT",
    help="Where the admin API listens; none: nowhere.",
)  # fmt: skip
@click.option("--api-certificate", default="", metavar="FILE", help="PEM, for the API. [default: one of our own CA]")
@click.option("--api-key", default="", metavar="FILE", help="The key of --api-certificate, PEM without a password.")
@click.option("--oidc-issuer", default="", metavar="URL", help="People may also come with tokens of this issuer.")
@click.option("--oidc-audience", default="", metavar="ID", help="Whom its tokens must be for: our client id there.")
@click.option(
    "--oidc-claim", default="sub", show_default=True, metavar="NAME",
    help="What names the user: sub, or email when it is verified.",
)  # fmt: skip
@click.option("--oidc-ca", default="", metavar="FILE", help="Certificates for the issuer's. [default: the system's]")
@click.option(
    "--take-over", is_flag=True,
    help="Start although another controller may hold the data; that one stops writing at once.",
)  # fmt: skip
def run(
    data: DataDirectory,
    listen: str,
    enroll_listen: str,
    advertise: str,
    certificate_hours: float,
    retention_days: float,
    min_free_disk: int,
    round_seconds: float,
    grace_days: float,
    take_over: bool,
    approve_enrolments: bool,
    **api: str,
) -> None:
    """Run the controller until Ctrl-C or SIGTERM. One controller uses a data directory at a time.

    It ends by itself with code 3 when the store is damaged, and with 4 when another controller has taken it over: a
    service manager should not start it again then.
    """
    from crossdock import telemetry
    from crossdock.lifecycle import Stop, stop_on_signals
    from crossdock_controller.processes import ControllerSettings, run_controller

    for name, value in (("--listen", listen), ("--enroll-listen", enroll_listen)):
        if not value.rpartition(":")[2].isdigit():
            raise click.BadParameter(f"{value!r} is not HOST:PORT", param_hint=name)
    served = api_settings(**api)
    telemetry.configure("controller")
    stop = Stop()
    stop_on_signals(stop)
    run_controller(
        ControllerSettings(
            data=data.root, listen=listen, enroll_listen=enroll_listen, advertise=advertise,
            certificate_hours=certificate_hours, retention_days=retention_days,
            min_free_disk_bytes=min_free_disk, round_seconds=round_seconds, take_over=take_over,
            grace_days=grace_days,
            approve_enrolments=approve_enrolments,
            api=served,
        ),
        stop,
    )  # fmt: skip


def api_settings(
    api_listen: str, api_certificate: str, api_key: str, oidc_issuer: str, oidc_audience: str, oidc_claim: str,
    oidc_ca: str,
) -> ApiSettings | None:  # fmt: skip
    """None for no API. Raises a usage error for options that do not go together."""
    if api_listen == "none":
        return None
    if not api_listen.rpartition(":")[2].isdigit():
        raise click.BadParameter(f"{api_listen!r} is not HOST:PORT", param_hint="--api-listen")
    if bool(api_certificate) != bool(api_key):
        raise click.UsageError("--api-certificate and --api-key go together")
    if bool(oidc_issuer) != bool(oidc_audience):
        raise click.UsageError("--oidc-issuer and --oidc-audience go together")
    if oidc_issuer and not oidc_issuer.startswith("https://"):
        raise click.BadParameter(f"{oidc_issuer!r} is no https:// address", param_hint="--oidc-issuer")
    oidc = OidcSettings(oidc_issuer, oidc_audience, oidc_claim, oidc_ca) if oidc_issuer else None
    return ApiSettings(api_listen, api_certificate, api_key, oidc)


@controller.command()
@data_option
def check(data: DataDirectory) -> None:
    """Read every page of the store and say what is wrong with it; minutes for tens of GB. Ends with code 3 if anything
    is. The controller may run meanwhile."""
    from crossdock_controller import exits
    from crossdock_controller.store.checkup import problems

    require_data(data)
    damaged = False
    for path in (data.state, data.intake):
        found = list(problems(path)) if path.exists() else ["is missing"]
        damaged = damaged or bool(found)
        click.echo(f"{path}: {'ok' if not found else found[0]}")
        for text in found[1:20]:
            click.echo(f"  {text}")
    if damaged:
        click.echo("  next: stop the controller, keep a copy, and restore the last backup: crossdock restore DIR")
        raise click.exceptions.Exit(exits.DAMAGED)

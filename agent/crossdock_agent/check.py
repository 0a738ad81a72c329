"""Proves a site's set-up before it goes live: one finding per thing tried, each failure with its next step.

Safe beside a running agent: nothing is moved, no record is read, and the controller is greeted only when no agent runs
here (a second session of one identity would look like a cloned machine).
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import grpc

from crossdock import siteconfig
from crossdock.errors import ConfigError, CrossdockError
from crossdock.lifecycle import Stop
from crossdock.limits import Limits
from crossdock.lock import SingleInstance, is_held
from crossdock.machine import machine_digest
from crossdock.secrets import Secrets
from crossdock.siteconfig import OutboxConfig, SiteConfig
from crossdock.v1.link_pb2 import Report, Welcome
from crossdock.v1.link_pb2_grpc import LinkStub
from crossdock_agent import binding, policy
from crossdock_agent.configuration import read_current
from crossdock_agent.control import SKEW_SECONDS, hello
from crossdock_agent.files import write_atomic
from crossdock_agent.identity import Identity, IdentityStore
from crossdock_agent.keystore import CREDENTIAL
from crossdock_agent.limits import describe, rules_of
from crossdock_agent.link import explain, open_channel
from crossdock_agent.outbox import inspect
from crossdock_agent.pump import wall_us
from crossdock_agent.settings import Settings
from crossdock_agent.sources import base
from crossdock_agent.sources.base import Finding
from crossdock_agent.status import read_status
from crossdock_agent.trust import fingerprints

REACH_SECONDS = 10.0


def check(settings: Settings) -> Iterator[Finding]:
    """Findings in the order a person would mend them."""
    yield _state(settings)
    identities = IdentityStore(settings.directory)
    try:
        identity = identities.current()
    except ConfigError as error:
        yield Finding("identity", False, error.message, error.hint)
    else:
        yield _certificate(identity)
        key = _key(settings, identities)
        yield key
        if key.ok:
            yield from _controller(settings, identities)
    try:
        kept = read_current(settings.config_path)
        config = siteconfig.decode(kept.config) if kept is not None else None
    except ConfigError as error:
        yield Finding("configuration", False, error.message, error.hint)
        config = None
    else:
        yield _configuration(config)
    yield _outbox(settings, config.outbox if config else OutboxConfig())
    yield _policy(settings)
    if config is not None and config.limits is not None:
        yield _limits(config.limits, config.zone)
    for source in config.sources if config else []:
        yield from _source(source, settings)
    for writer in config.writers if config else ():
        yield from _writer(writer, settings)


def _state(settings: Settings) -> Finding:
    probe = settings.directory / ".check"
    try:
        write_atomic(probe, b"")
        probe.unlink()
    except OSError as error:
        return Finding(
            "state directory", False, f"{settings.directory} cannot be written: {error.strerror}",
            "create it, and make the account the agent runs under its owner",
        )  # fmt: skip
    return Finding("state directory", True, f"{settings.directory} is writable")


def _certificate(identity: Identity) -> Finding:
    left = (identity.expires_us - wall_us()) / 3_600_000_000
    what = f"agent {identity.agent} at site {identity.site}"
    if left <= 0:
        return Finding(
            "certificate", False, f"{what}: expired {-left:.1f} h ago by this machine's clock",
            "check the clock; else 'crossdock token create' on the controller and 'crossdock-agent enroll' here",
        )  # fmt: skip
    return Finding("certificate", True, f"{what}: valid for {left:.1f} h, renewed by the running agent")


_STORED = {
    "plain": "stored as it is, readable by its owner only",
    "credential": f"wrapped under the systemd credential {CREDENTIAL}",
    "dpapi": "protected by Windows (DPAPI) for this machine",
}


def _key(settings: Settings, identities: IdentityStore) -> Finding:
    """Whether it can be opened; a running agent has proved that already, and may be the only one that can."""
    try:
        detail = _STORED[identities.scheme()]
        if not is_held(settings.lock_path):
            binding.judge(identities.current(), machine_digest())
            identities.key()
    except CrossdockError as error:
        return Finding("private key", False, error.message, error.hint)
    return Finding("private key", True, detail)


def _controller(settings: Settings, identities: IdentityStore) -> Iterator[Finding]:
    address = identities.current().link_address
    if is_held(settings.lock_path):
        yield from _by_status(settings, address)
        return
    try:
        with SingleInstance(settings.lock_path):
            welcome, round_trip_us = _greet(identities)
    except CrossdockError as error:
        yield Finding("controller", False, error.message, error.hint)
        return
    yield Finding("controller", True, f"{address} answers, version {welcome.version}, {round_trip_us // 1000} ms")
    yield _clock(welcome.clock_us - (wall_us() - round_trip_us // 2))


def _by_status(settings: Settings, address: str) -> Iterator[Finding]:
    status = read_status(settings.status_path)
    if status is None or status.link != "connected":
        said = status.link_error if status is not None else "the running agent has written no status yet"
        yield Finding("controller", False, f"{address}: {said or 'not connected yet'}", "look again in a minute")
        return
    yield Finding("controller", True, f"{address}: the running agent (process {status.process}) is connected")
    if status.clock_offset_us is not None:
        yield _clock(status.clock_offset_us)


def _greet(identities: IdentityStore) -> tuple[Welcome, int]:
    """The controller's welcome to a session that ends with it, and the round trip in microseconds."""
    address = identities.current().link_address
    with open_channel(identities) as channel:
        try:
            started = time.monotonic()
            report = Report(hello=hello(os.urandom(16), b""))
            report.hello.authorities.extend(fingerprints(identities.current().ca_bundle))
            call = LinkStub(channel).Control(iter([report]), timeout=REACH_SECONDS)  # type: ignore[no-untyped-call]
            for directive in call:
                if directive.WhichOneof("kind") == "welcome":
                    took = int((time.monotonic() - started) * 1e6)
                    call.cancel()
                    return directive.welcome, took
        except grpc.RpcError as error:
            raise explain(error, address) from error
    raise CrossdockError(f"controller {address} ended the session without a welcome", hint="see the controller's log")


def _clock(offset_us: int) -> Finding:
    seconds = -offset_us / 1e6
    if abs(seconds) > SKEW_SECONDS:
        return Finding("clock", False, f"{seconds:+.1f} s off the controller's", "set up time synchronisation (NTP)")
    return Finding("clock", True, f"{seconds:+.3f} s off the controller's")


def _configuration(config: SiteConfig | None) -> Finding:
    if config is None:
        return Finding(
            "configuration", False, "none received yet", "'crossdock apply' on the controller, then run the agent once"
        )
    return Finding("configuration", True, f"revision {config.revision}, {len(config.sources)} source(s)")


def _outbox(settings: Settings, limits: OutboxConfig) -> Finding:
    free = shutil.disk_usage(settings.directory).free if settings.directory.is_dir() else 0
    batches, held = 0, 0
    try:
        if settings.outbox_path.exists():
            batches, held = inspect(settings.outbox_path)
    except CrossdockError as error:
        return Finding("outbox", False, error.message, error.hint)
    what = f"{batches} batches, {held} of {limits.max_bytes} bytes, {free} bytes free on its disk"
    if free <= limits.min_free_disk_bytes:
        return Finding(
            "outbox", False, what, f"reading stops below {limits.min_free_disk_bytes} bytes: free disk space"
        )
    if held >= limits.max_bytes:
        return Finding("outbox", False, what, "it is full: is the controller reachable? else raise outbox.max_bytes")
    return Finding("outbox", True, what)


def _policy(settings: Settings) -> Finding:
    """What the centre may ask here."""
    try:
        found = policy.read(settings.policy_path)
    except ConfigError as error:
        return Finding("policy", False, error.message, "correct the file: docs/guide/fleet/commands.md")
    return Finding("policy", True, found.words)


def _limits(limits: Limits, zone: str) -> Finding:
    """What holds at this moment; wrong when this machine cannot tell which hours it is in."""
    try:
        said = describe(rules_of(limits, zone), wall_us())
    except ConfigError as error:
        return Finding("limits", False, error.message, error.hint)
    return Finding("limits", True, said)


class NoMemory:
    """`check` reads nothing, so there is nothing to remember."""

    def recall(self, _key: str) -> bytes | None:
        return None

    def unreleased(self) -> list[bytes]:
        return []

    def rows(self, _after: str, _limit: int) -> list[tuple[str, bytes]]:
        return []


def _writer(config: siteconfig.WriterConfig, settings: Settings) -> Iterator[Finding]:
    from crossdock_agent.writers import base as writers  # where there is one

    context = writers.WriterContext(config.name, lambda _key: None, Secrets(settings.directory).resolve, wall_us)
    try:
        writer = writers.build(config.kind, config.settings, context)
        try:
            for finding in writer.check():
                yield Finding(f"{config.name}: {finding.name}", finding.ok, finding.detail, finding.hint)
        finally:
            writer.close()
    except CrossdockError as error:
        yield Finding(config.name, False, error.message, error.hint)


def _source(config: siteconfig.SourceConfig, settings: Settings) -> Iterator[Finding]:
    context = base.SourceContext(
        config.name, NoMemory(), base.Counters(), Stop(), Secrets(settings.directory).resolve, time.monotonic, wall_us
    )
    try:
        source = base.build(config.kind, config.settings, context)
        try:
            for finding in source.check():
                yield Finding(f"{config.name}: {finding.name}", finding.ok, finding.detail, finding.hint)
        finally:
            source.close()
    except CrossdockError as error:
        yield Finding(config.name, False, error.message, error.hint)

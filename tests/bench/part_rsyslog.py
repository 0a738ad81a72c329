"""Baseline (ii): rsyslog, imfile -> disk-assisted queue -> omrelp with TLS -> imrelp with TLS -> file.

Two rsyslogd of our own, with their own configuration, work directories, ports and certificates; the system's rsyslogd
is not touched, and both are gone afterwards. RELP acknowledges; nothing is parsed, mapped or deduplicated.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, sleep

import psutil
from measure import Meter

from support.certificates import Pair, self_signed
from support.gateway import wait_until

PATIENCE_SECONDS = 600.0

# Escaping is off so that bytes arrive as they are; queue and batch sizes are above the defaults, in its favour.
_COMMON = """
global(workDirectory="{work}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
"""
_RECEIVER = """
module(load="imrelp" tls.tlslib="openssl")
template(name="raw" type="string" string="%msg:2:$%\\n")
ruleset(name="keep" queue.type="LinkedList" queue.size="100000" queue.dequeueBatchSize="1024") {{
    action(type="omfile" file="{output}" template="raw" ioBufferSize="256k" flushOnTXEnd="on" asyncWriting="off")
}}
input(type="imrelp" port="{port}" ruleset="keep" maxDataSize="64k" tls="on" tls.caCert="{ca}" tls.myCert="{ca}"
      tls.myPrivKey="{key}" tls.authMode="certvalid")
"""
_SENDER = """
module(load="imfile" mode="inotify")
module(load="omrelp" tls.tlslib="openssl")
ruleset(name="ship") {{
    action(type="omrelp" target="127.0.0.1" port="{port}" template="RSYSLOG_ForwardFormat" windowSize="1024"
           tls="on" tls.caCert="{ca}" tls.myCert="{ca}" tls.myPrivKey="{key}" tls.authMode="certvalid"
           action.resumeRetryCount="-1" queue.type="LinkedList" queue.fileName="ship" queue.maxDiskSpace="4g"
           queue.size="100000" queue.dequeueBatchSize="1024" queue.saveOnShutdown="on")
}}
input(type="imfile" file="{drop}/*.csv" tag="wms:" ruleset="ship" addMetadata="off" freshStartTail="off")
"""


def available() -> bool:
    return shutil.which("rsyslogd") is not None or Path("/usr/sbin/rsyslogd").exists()


def run(source: Path, directory: Path) -> tuple[float, int, list[dict[str, object]]]:
    """(seconds until the last byte is in the receiver's file, records, usage).

    Raises AssertionError when the lines differ. Their order is not compared: a disk-assisted queue does not keep it.
    """
    drop, output = directory / "drop", directory / "received.log"
    drop.mkdir(parents=True)
    port, pair = _free_port(), self_signed(directory)
    size = source.stat().st_size
    with ExitStack() as stack:
        receiver = stack.enter_context(_rsyslogd(directory, "receiver", _RECEIVER, pair, port=port, output=output))
        wait_until(lambda: _listens(receiver), "rsyslog's receiver listens", 30)
        sender = stack.enter_context(_rsyslogd(directory, "sender", _SENDER, pair, port=port, drop=drop))
        meter = Meter({"rsyslogd sender": sender, "rsyslogd receiver": receiver})
        meter.start()
        began = perf_counter()
        os.link(source, drop / "stock.csv")
        while not output.exists() or output.stat().st_size < size:
            if perf_counter() - began > PATIENCE_SECONDS:
                raise TimeoutError(f"rsyslog moved {output.stat().st_size if output.exists() else 0} of {size} bytes")
            sleep(0.02)
        seconds = perf_counter() - began
        usages = [asdict(usage) for usage in meter.stop()]
    lines, received = _lines(source), _lines(output)
    if lines != received:
        raise AssertionError(f"rsyslog's file {output} holds other lines than the one it read")
    return seconds, lines[0] - 1, usages


@contextmanager
def _rsyslogd(directory: Path, name: str, text: str, pair: Pair, **values: object) -> Iterator[int]:
    """The process id of a running rsyslogd; it is stopped at the end."""
    work = directory / name
    work.mkdir()
    config = directory / f"{name}.conf"
    config.write_text(_COMMON.format(work=work) + text.format(ca=pair.certificate, key=pair.key, **values))
    program = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"
    pid_file = work / "pid"
    with (directory / f"{name}.out").open("wb") as out:
        process = subprocess.Popen([program, "-n", "-f", config, "-i", pid_file], stdout=out, stderr=out)
    try:
        wait_until(lambda: pid_file.exists() or process.poll() is not None, f"rsyslogd {name} is up", 30)
        if process.poll() is not None:
            raise RuntimeError(f"rsyslogd {name} ended: {(directory / f'{name}.out').read_text(errors='replace')}")
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(pid: int) -> bool:
    return any(c.status == psutil.CONN_LISTEN for c in psutil.Process(pid).net_connections("tcp"))


def _lines(path: Path) -> tuple[int, int]:
    """Number of lines, and a sum over them that does not depend on their order."""
    with path.open("rb") as file:
        count = total = 0
        for line in file:
            count += 1
            total += hash(line)
    return count, total

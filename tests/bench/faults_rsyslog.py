"""rsyslog under kills, in two configurations: as its documentation recommends it, and as strict as it can be made.

Recommended: a disk-assisted queue that is saved on shutdown, endless retries, imfile's state stored often and after
submission. Strict: a pure disk queue whose position is written at every record, and a receiver without a queue, which
acknowledges what it has written. Its files are not synced: a killed process does not need that, and each record would
wait for the disk. The sender's queue is the ruleset's: one of the action would leave the main queue, which is in
memory, before it.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from faults import tally
from part_rsyslog import _free_port, _listens

from support.certificates import self_signed
from support.gateway import wait_until
from support.processes import Process

_COMMON = """
global(workDirectory="{work}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
"""
_RECEIVER = """
module(load="imrelp" tls.tlslib="openssl")
template(name="raw" type="string" string="%msg:2:$%\\n")
ruleset(name="keep" {queue}) {{
    action(type="omfile" file="{output}" template="raw" ioBufferSize="256k" flushOnTXEnd="on" asyncWriting="off")
}}
input(type="imrelp" port="{port}" ruleset="keep" maxDataSize="64k" tls="on" tls.caCert="{ca}" tls.myCert="{ca}"
      tls.myPrivKey="{key}" tls.authMode="certvalid")
"""
_SENDER = """
module(load="imfile" mode="inotify")
module(load="omrelp" tls.tlslib="openssl")
ruleset(name="ship" {queue}) {{
    action(type="omrelp" target="127.0.0.1" port="{port}" template="RSYSLOG_ForwardFormat" windowSize="1024"
           tls="on" tls.caCert="{ca}" tls.myCert="{ca}" tls.myPrivKey="{key}" tls.authMode="certvalid"
           action.resumeRetryCount="-1" action.resumeInterval="2")
}}
input(type="imfile" file="{drop}/*.csv" tag="wms:" ruleset="ship" addMetadata="off" freshStartTail="off"
      persistStateInterval="1000" persistStateAfterSubmission="on")
"""
_DISK_ASSISTED = (
    'queue.type="LinkedList" queue.fileName="{name}" queue.maxDiskSpace="4g" queue.size="100000"'
    ' queue.dequeueBatchSize="1024" queue.saveOnShutdown="on" queue.checkpointInterval="1000"'
)
_DISK = (
    'queue.type="Disk" queue.fileName="{name}" queue.maxDiskSpace="4g" queue.dequeueBatchSize="1024"'
    ' queue.saveOnShutdown="on" queue.checkpointInterval="1"'
)


class Rsyslog:
    """A `faults.Transport`. A context manager: both processes are gone at its end."""

    def __init__(self, directory: Path, size: int, *, strict: bool) -> None:
        self._drop, self._output, self._size = directory / "drop", directory / "received.log", size
        self._drop.mkdir(parents=True)
        pair, port = self_signed(directory), _free_port()
        values = {"ca": pair.certificate, "key": pair.key, "port": port, "drop": self._drop, "output": self._output}
        queue = _DISK if strict else _DISK_ASSISTED
        receiver_queue = 'queue.type="Direct"' if strict else _DISK_ASSISTED.format(name="keep")
        self._receiver = _process(directory, "receiver", _RECEIVER, {**values, "queue": receiver_queue})
        self._sender = _process(directory, "sender", _SENDER, {**values, "queue": queue.format(name="ship")})
        self._closing = ExitStack()

    def __enter__(self) -> Rsyslog:
        for process in (self._receiver, self._sender):
            self._closing.callback(process.stop)
        self.start_receiver()
        self.start_sender()
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _b: TracebackType | None) -> None:
        self._closing.close()

    def drop(self, source: Path) -> None:
        os.link(source, self._drop / "stock.csv")

    def progress(self) -> float:
        return self._output.stat().st_size / self._size if self._output.exists() else 0.0

    def kill_receiver(self) -> None:
        self._receiver.kill()

    def start_receiver(self) -> None:
        self._receiver.start()
        wait_until(lambda: not self._receiver.alive() or _listens(self._receiver.pid), "rsyslog's receiver listens", 60)
        assert self._receiver.alive(), self._receiver.tail()

    def kill_sender(self) -> None:
        self._sender.kill()

    def start_sender(self) -> None:
        self._sender.start()

    def counts(self) -> dict[str, Counter[int]]:
        with self._output.open("rb") as lines:
            return {"receiver's file": tally(lines)}


def _process(directory: Path, name: str, text: str, values: dict[str, object]) -> Process:
    work = directory / name
    work.mkdir()
    config = directory / f"{name}.conf"
    config.write_text(_COMMON.format(work=work) + text.format(**values))
    # No file with a process id: one that a kill leaves behind must not keep the next start from beginning.
    return Process(name, ["/usr/sbin/rsyslogd", "-n", "-f", str(config), "-i", "NONE"], directory)

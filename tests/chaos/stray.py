"""A client with an identity of its own and no manners: it repeats, reorders, forges and breaks off.

It sends one source's batches until each was acknowledged. Whatever it does, each of its records is one event, a batch
with a known sequence and other content is never stored, and no acknowledgement covers what the controller lacks.
"""

from __future__ import annotations

import random
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing

import grpc

from chaos.ledger import Ledger
from chaos.tree import STRAY_SITE, STRAY_SOURCE
from crossdock.codec import Sealer
from crossdock.v1 import link_pb2
from crossdock.v1.batch_pb2 import BatchHeader, Origin
from crossdock_controller.authority import Authority
from crossdock_controller.paths import DataDirectory, read_addresses
from support.gateway import Gateway, Identity, stub

KEYS = 5
CALL_SECONDS = 10.0
BATCHES_A_CALL = 40


class Stray:
    """A context manager: it misbehaves on a thread, and behaves once `end` was called, until all is acknowledged."""

    def __init__(self, data: DataDirectory, ledger: Ledger, seed: int) -> None:
        self.misdeeds = {"repeated": 0, "reordered": 0, "forged": 0, "damaged": 0, "broken off": 0}
        self.acknowledged = 0
        self.lies: list[str] = []  # acknowledgements of what was never sent
        self._batches: list[link_pb2.Batch] = []
        self._records = 0
        self._ledger = ledger
        self._rng = random.Random(f"{seed} stray")
        self._epoch = self._rng.randbytes(16)
        self._unit = self._rng.randbytes(16)
        self._sealer = Sealer()
        self._gateway = Gateway(data, read_addresses(data), Authority.open(data.authority))
        self._identity = self._enrol()
        self._misbehaving = threading.Event()
        self._ending = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stray")

    def __enter__(self) -> Stray:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._ending.set()
        self._thread.join()

    def end(self) -> None:
        """No new batches, and no misdeeds any more."""
        self._ending.set()

    def done(self) -> bool:
        return self.acknowledged == len(self._batches)

    @property
    def sent(self) -> int:
        return len(self._batches)

    def _enrol(self) -> Identity:
        token = self._gateway.token(site=STRAY_SITE, agent=STRAY_SITE, seconds=3600)
        return self._gateway.enroll(token)[0]

    def _run(self) -> None:
        while not (self._closing.is_set() or (self._ending.is_set() and self.done())):
            if not self._ending.is_set():
                for _ in range(self._rng.randint(1, 4)):
                    self._batches.append(self._new_batch())
            self._call(list(self._proper() if self._ending.is_set() else self._improper()))
            self._closing.wait(0.3)

    def _new_batch(self) -> link_pb2.Batch:
        keys = [f"{STRAY_SITE}-{STRAY_SOURCE}-{self._rng.randrange(KEYS)}" for _ in range(self._rng.randint(1, 8))]
        records = [self._ledger.next_version(key) for key in keys]
        sequence = len(self._batches) + 1
        batch = self._sealed(sequence, self._records, [(r.key, str(r.version)) for r in records])
        self._records += len(records)
        self._ledger.gave(STRAY_SITE, STRAY_SOURCE, f"batch {sequence}", records)
        return batch

    def _sealed(self, sequence: int, first: int, rows: list[tuple[str, str]]) -> link_pb2.Batch:
        payload = "".join(f'{{"sku": "{sku}", "qty": "{quantity}"}}\n' for sku, quantity in rows).encode()
        origin = Origin(kind="file", name="stray.jsonl", unit=self._unit, first_record=first, first_line=first + 1)
        sealed = self._sealer.seal(BatchHeader(format="jsonl", records=len(rows), origin=origin), payload)
        return link_pb2.Batch(
            source=STRAY_SOURCE, epoch=self._epoch, sequence=sequence, lane="standard", crc32=sealed.crc32,
            sealed=sealed.data,
        )  # fmt: skip

    def _proper(self) -> Iterator[link_pb2.Batch]:
        return iter(self._batches[self.acknowledged : self.acknowledged + BATCHES_A_CALL])

    def _improper(self) -> Iterator[link_pb2.Batch]:
        """From somewhere in what is acknowledged already, each batch well sent or not."""
        start = max(0, self.acknowledged - self._rng.randrange(4))
        run = self._batches[start : start + BATCHES_A_CALL]
        for place, batch in enumerate(run):
            deed = self._rng.choice(("", "", "repeated", "reordered", "forged", "damaged"))
            if deed == "forged" and batch.sequence > self.acknowledged:
                deed = ""  # what is not stored yet is whatever comes first
            if deed == "reordered" and place + 1 < len(run):
                yield run[place + 1]
            elif deed == "forged":
                yield self._sealed(batch.sequence, self._records, [("forged", "1")])
            elif deed == "damaged":
                yield link_pb2.Batch(
                    source=batch.source, epoch=batch.epoch, sequence=batch.sequence, lane=batch.lane,
                    crc32=zlib.crc32(batch.sealed), sealed=batch.sealed[:-1] + b"\0",
                )  # fmt: skip
            if deed:
                self.misdeeds[deed] += 1
            yield batch
            if deed == "repeated":
                yield batch

    def _call(self, batches: list[link_pb2.Batch]) -> None:
        """Send *batches* and hear what comes back; a call that fails is made good by the next one."""
        broken_off = not self._ending.is_set() and self._rng.random() < 0.3
        with closing(self._gateway.link(self._identity)) as channel:
            try:
                call = stub(channel).Uplink(iter(batches), timeout=CALL_SECONDS)
                for ack in call:
                    self._heard(ack)
                    if broken_off:
                        self.misdeeds["broken off"] += 1
                        call.cancel()
                        return
            except grpc.RpcError:
                return

    def _heard(self, ack: link_pb2.Ack) -> None:
        for done in ack.acknowledged:
            if done.sequence > len(self._batches) or done.epoch != self._epoch:
                self.lies.append(f"batch {done.sequence} was acknowledged, {len(self._batches)} were made")
            self.acknowledged = max(self.acknowledged, done.sequence)

"""What a controller acknowledged before it was restored, and the agent hears only afterwards."""

import random
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from crossdock.codec import Sealer
from crossdock.v1.batch_pb2 import BatchHeader
from crossdock_agent.outbox import Append
from crossdock_agent.problems import Problems
from support.protocol_site import AgentSide, ControllerSide, Line


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[AgentSide]:
    (tmp_path / "agent").mkdir()
    side = AgentSide(tmp_path / "agent")
    yield side
    side.close()


def controller(directory: Path, store: bytes) -> ControllerSide:
    directory.mkdir()
    return ControllerSide(directory, store)


def acknowledged_and_not_heard(agent: AgentSide, side: ControllerSide) -> Line:
    agent.control.welcome(side.welcome(agent.control.hello()), 0)
    sealed = Sealer().seal(BatchHeader(format="lines", records=1, checkpoint=b"1"), b"1")
    writer = agent.outbox.writer("wms")
    writer.append(Append("wms", "standard", sealed.data, zlib.crc32(sealed.data), 1, 1, 1, b"1", on_ack=b"archive it"))
    writer.flush()
    line = Line(agent, side, Problems(), random.Random(1))
    assert line.send(5) == 1
    line.arrive(1)
    side.commit()
    assert len(line.down) == 1
    side.close()
    return line


def in_the_end(agent: AgentSide, side: ControllerSide) -> None:
    line = Line(agent, side, Problems(), random.Random(1))
    line.send(5)
    line.arrive(5)
    side.commit()
    line.hear(5)
    agent.settle()
    assert [s.last_sequence for s in side.reader.streams()] == [1]
    assert agent.outbox.positions()["wms"].acked_sequence == 1
    assert [token for _, token in agent.outbox.releases("wms")] == [b"archive it"]


def test_it_does_not_count_when_it_comes_after_the_welcome_of_the_restored_one(
    agent: AgentSide, tmp_path: Path
) -> None:
    line = acknowledged_and_not_heard(agent, controller(tmp_path / "before", b"store 1"))
    restored = controller(tmp_path / "restored", b"store 2")
    agent.given_back = False
    agent.control.welcome(restored.welcome(agent.control.hello()), 0)
    assert agent.given_back  # streams begin anew
    line.hear(1)
    agent.settle()
    assert agent.outbox.positions()["wms"].acked_sequence == 0
    assert agent.outbox.releases("wms") == []
    in_the_end(agent, restored)
    restored.close()


def test_it_is_taken_back_when_it_comes_between_the_hello_and_the_welcome(agent: AgentSide, tmp_path: Path) -> None:
    line = acknowledged_and_not_heard(agent, controller(tmp_path / "before", b"store 1"))
    restored = controller(tmp_path / "restored", b"store 2")
    hello = agent.control.hello()
    line.hear(1)
    agent.settle()
    assert agent.outbox.positions()["wms"].acked_sequence == 1
    agent.control.welcome(restored.welcome(hello), 0)
    agent.settle()
    assert agent.outbox.positions()["wms"].acked_sequence == 0
    in_the_end(agent, restored)
    restored.close()

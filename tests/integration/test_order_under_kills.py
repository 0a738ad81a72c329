"""Order and completeness through a sink that fails at random, while the dispatcher dies. The full measure of it is
`tests/bench/bench_order.py`: 100,000 documents of 1,000 keys and five kills."""

from pathlib import Path

from support.ordering import deliver, fill, judged
from support.pipeline import Box


def test_every_version_of_every_key_arrives_in_order_though_the_sink_fails_and_the_dispatcher_is_killed(
    tmp_path: Path,
) -> None:
    documents, keys, kills = 5_000, 500, 3
    box = Box(tmp_path / "data")
    try:
        fill(box, documents, keys)
        took = deliver(box, tmp_path / "out.txt", documents, kills, seconds=120.0)
        figures = judged(box, tmp_path / "out.txt", documents, keys, kills, took)
        assert figures.failures > documents // 50, "the sink did fail"
    finally:
        box.close()

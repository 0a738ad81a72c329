"""The log of revisions."""

from pathlib import Path

import pytest

from crossdock.errors import ConfigError
from crossdock_controller.store import connection, migrate, revisions


def test_of_two_who_saw_the_same_head_one_applies_and_the_other_is_told(tmp_path: Path) -> None:
    migrate(tmp_path / "state.db")
    db = connection.connect(tmp_path / "state.db")

    def apply(text: str) -> int:
        tree = {"sites/a.yaml": text}
        hash_ = revisions.digest(revisions.dumps(tree))
        return revisions.append(db, tree, hash_=hash_, author="me", message="", now_us=1, expected=0)

    assert apply("one") == 1
    with pytest.raises(ConfigError, match="revision 1 was applied meanwhile"):
        apply("two")
    assert revisions.head(db) == (1, {"sites/a.yaml": "one"})
    db.close()

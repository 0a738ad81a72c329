"""What the command line says: times, sizes and counts as people say them, and errors with their next step."""

import datetime as dt
import os
import sqlite3
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from crossdock.errors import Refused
from crossdock_controller.cli import failures, root, words
from crossdock_controller.cli.options import assignments, default_data
from crossdock_controller.cli.top import sparkline

NOON_US = 1_772_366_645_123_000  # 2026-03-01 12:04:05.123 UTC


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 ms"), (0.34, "340 ms"), (0.9996, "1.0 s"), (4.24, "4.2 s"), (12.4, "12 s"), (59.97, "1 min"),
        (200, "3 min 20 s"), (7500, "2 h 5 min"), (3600, "1 h"), (9 * 86400 + 4 * 3600, "9 d 4 h"), (-3, "-3.0 s"),
    ],
)  # fmt: skip
def test_durations_are_said_in_two_units_at_most(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


@given(st.floats(min_value=0, max_value=10**9))
def test_a_duration_never_shows_a_unit_that_should_have_carried(seconds: float) -> None:
    said = words.duration(seconds)
    assert "60 s" not in said.split(" min")[-1]
    assert not said.startswith(("1000 ms", "60 s", "60 min", "24 h"))


def test_moments_carry_their_zone_and_times_that_never_were_are_never() -> None:
    assert words.moment(NOON_US, dt.UTC) == "2026-03-01 12:04:05.123 UTC"
    windows = dt.timezone(dt.timedelta(hours=1), "W. Europe Standard Time")
    assert words.moment(NOON_US, windows) == "2026-03-01 13:04:05.123 +0100"
    assert words.moment(0) == "-"
    assert words.ago(0, NOON_US) == "never"
    assert words.ago(NOON_US - 4_200_000, NOON_US) == "4.2 s ago"
    assert words.ago(NOON_US + 5, NOON_US) == "just now"
    assert words.ahead(NOON_US + 3_600_000_000, NOON_US) == "in 1 h"


def test_sizes_counts_and_rates_are_short() -> None:
    sizes = (0, 1023, 820 * 1024, 1503238553)
    assert [words.size(n) for n in sizes] == ["0 B", "1023 B", "820 KiB", "1.4 GiB"]
    assert words.count(1234567) == "1,234,567"
    assert [words.rate(r) for r in (3.44, 0, 1234.5)] == ["3.4/s", "0/s", "1,234/s"]
    assert (words.plural(1, "batch", "batches"), words.plural(3, "batch", "batches")) == ("1 batch", "3 batches")
    assert words.shortened("one\ntwo   three", 9) == "one two …"


def test_periods_are_read_and_nonsense_names_the_forms() -> None:
    assert [words.seconds_of(t) for t in ("90s", "15m", "1h", "7d", "45", "1.5h")] == [90, 900, 3600, 604800, 45, 5400]
    for text in ("soon", "", "-1h", "0s", "1 fortnight"):
        with pytest.raises(ValueError, match="write 90s, 15m, 1h or 7d"):
            words.seconds_of(text)


def test_fields_to_set_keep_everything_after_the_first_equals_sign() -> None:
    assert assignments(("QTY=12", "NOTE=a=b", "LOT=")) == {"QTY": "12", "NOTE": "a=b", "LOT": ""}
    with pytest.raises(click.BadParameter, match="FIELD=VALUE"):
        assignments(("QTY",))


def test_a_sparkline_has_one_bar_a_value_and_zero_is_blank() -> None:
    assert sparkline([0, 1, 4, 8]) == " ▁▄█"
    assert sparkline([0, 0]) == "  "


def test_the_help_of_every_command_is_there_and_names_the_commands_in_groups() -> None:
    runner = CliRunner()
    overview = runner.invoke(root, ["--help"])
    assert overview.exit_code == 0
    for title in ("See:", "Mend:", "Configure:", "Run:"):
        assert title in overview.output
    assert "worker" not in overview.output
    for name in root.list_commands(click.Context(root)):
        found = runner.invoke(root, [name, "--help"])
        assert found.exit_code == 0, found.output


def test_a_mistyped_command_is_a_usage_error_with_the_nearest_name() -> None:
    found = CliRunner().invoke(root, ["statsu"])
    assert found.exit_code == 2
    assert "did you mean 'status'?" in found.stderr


def test_a_directory_without_a_controller_says_what_to_do(tmp_path: object) -> None:
    for command in (["status"], ["account"], ["dead", "list"], ["trace", "order", "1"], ["agents"], ["history"]):
        found = CliRunner().invoke(root, [*command, "--data", str(tmp_path)])
        assert found.exit_code == 1, command
        assert "holds no controller's data" in found.stderr
        assert "next:" in found.stderr
        assert "Traceback" not in found.output


def test_errors_of_the_store_become_a_sentence_and_a_next_step() -> None:
    assert failures.explained(Refused("no", hint="ask"))[1] == "ask"
    message, hint = failures.explained(sqlite3.OperationalError("no such table: events"))
    assert "another schema" in message
    assert "start the controller" in hint
    message, hint = failures.explained(sqlite3.DatabaseError("database disk image is malformed"))
    assert "damaged" in message
    assert "backup" in hint
    assert "busy" in failures.explained(sqlite3.OperationalError("database is locked"))[0]
    assert failures.explained(PermissionError(13, "Permission denied", "x.db"))[0] == "Permission denied: x.db"


def test_help_and_a_status_in_json_import_nothing_heavy(tmp_path: object) -> None:
    heavy = ("alembic", "sqlalchemy", "pydantic", "grpc", "google.protobuf", "ruamel", "cryptography", "loguru")
    program = (
        "import sys; from crossdock_controller.cli import root\n"
        "for args in (['--help'], ['status', '--json', '--data', sys.argv[1]]):\n"
        "    try: root.main(args)\n"
        "    except SystemExit: pass\n"
        "import crossdock_controller.commands.status, crossdock_controller.cli.status\n"
        f"loaded = sorted(m for m in {(*heavy, 'rich')!r} if m in sys.modules)\n"
        "sys.exit(','.join(loaded) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_data_directory_has_a_default_for_this_system() -> None:
    assert default_data().name == "crossdock"
    assert default_data().is_absolute() or os.name != "nt"

"""The statements of each dialect, word by word: SQL Server's have no server to be tried on."""

from __future__ import annotations

from crossdock_controller.sinks.sql_dialects import DIALECTS
from crossdock_controller.sinks.sql_statements import TableMapping, call, child_table, upsert

MAPPING = TableMapping.model_validate(
    {
        "table": "dbo.stock]s`",
        "key": ["sku"],
        "columns": {"sku": "sku", "qty": "on_hand.value", "seq": "$sequence"},
        "children": [{"each": "lots", "table": "lot", "parent": {"stock": "sku"}, "columns": {"n": "$index"}}],
    }
)


def test_sql_server_merges_under_a_lock_and_only_what_is_newer() -> None:
    assert upsert(MAPPING, DIALECTS["sqlserver"].style) == (
        "MERGE INTO [dbo].[stock]]s`] WITH (HOLDLOCK) AS target"
        " USING (VALUES (?, ?, ?)) AS source ([sku], [qty], [seq]) ON target.[sku] = source.[sku]"
        " WHEN MATCHED AND (target.[seq] IS NULL OR CAST(source.[seq] AS bigint) >= CAST(target.[seq] AS bigint))"
        " THEN UPDATE SET [qty] = source.[qty], [seq] = source.[seq]"
        " WHEN NOT MATCHED THEN INSERT ([sku], [qty], [seq]) VALUES (source.[sku], source.[qty], source.[seq]);"
    )


def test_sql_server_replaces_children_only_of_the_version_it_holds() -> None:
    child = child_table(MAPPING, MAPPING.children[0], DIALECTS["sqlserver"].style)
    guard = "EXISTS (SELECT 1 FROM [dbo].[stock]]s`] WHERE [sku] = ? AND CAST([seq] AS bigint) = CAST(? AS bigint))"
    assert child.delete == f"DELETE FROM [lot] WHERE [stock] = ? AND {guard}"
    assert child.insert == f"INSERT INTO [lot] ([stock], [n]) SELECT ?, ? WHERE {guard}"


def test_mariadb_sets_the_sequence_last_because_it_guards_the_others() -> None:
    newer = "`seq` IS NULL OR CAST(VALUES(`seq`) AS SIGNED) >= CAST(`seq` AS SIGNED)"
    assert upsert(MAPPING, DIALECTS["mariadb"].style) == (
        "INSERT INTO `dbo`.`stock]s```  (`sku`, `qty`, `seq`) VALUES (?, ?, ?)".replace("  ", " ")
        + f" ON DUPLICATE KEY UPDATE `qty` = IF({newer}, VALUES(`qty`), `qty`),"
        f" `seq` = IF({newer}, VALUES(`seq`), `seq`)"
    )


def test_a_procedure_is_called_in_the_words_of_its_database() -> None:
    assert call("dbo.{marks}", 2, DIALECTS["sqlserver"].style) == "EXEC [dbo].[{marks}] ?, ?"
    assert call("post", 1, DIALECTS["mariadb"].style) == "CALL `post`(?)"
    assert call("ledger.post", 3, DIALECTS["postgresql"].style) == 'CALL "ledger"."post"(?, ?, ?)'

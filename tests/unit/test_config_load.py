"""A whole tree: every problem at once, each with file and line; and what a sound tree becomes."""

from __future__ import annotations

import msgspec
import pytest

from crossdock import siteconfig
from crossdock.errors import ConfigError
from crossdock_controller.config.errors import ConfigInvalid, Problem
from crossdock_controller.config.load import inspect, load
from crossdock_controller.config.runtime import Runtime
from crossdock_controller.documents.shipment import Shipment
from support.trees import small_tree

FINANCE = """\
    sink: finance
    kind: sql
    url: sqlite:///finance.db
    tables:
      Shipment: {table: shipment, key: [number], columns: {number: number}}
    """


def problems(**changes: str | None) -> list[Problem]:
    return inspect(small_tree(**changes))[1]


def texts(**changes: str | None) -> list[str]:
    return [problem.text() for problem in problems(**changes)]


def test_the_small_tree_has_no_problem() -> None:
    assert texts() == []


def test_ten_errors_are_shown_at_once_each_with_its_file_and_line() -> None:
    tree = small_tree(
        sites__atl1="""\
            site: atl1
            zone: America/Atlanta
            labels: {region: us}
            variables: {wms_root: D:/wms}
            labels: {region: eu}
            """,
        sites__rtm1="""\
            site: rtm1
            lables: {region: eu}
            variables: {wms_root: /srv/wms}
            """,
        sources__shipments="""\
            source: wms-shipments
            on: {}
            kind: file_drop
            lane: urgent
            directory: ${wms_rot}/out
            patern: "SHP*.csv"
            format: {kind: csv, delimiter: ";;", encoding: cp1252}
            """,
        sources__erp="""\
            source: erp
            on: {}
            kind: sql_tabel
            """,
        mappings__shipments="""\
            mapping: wms-shipments
            document: Shipment
            each: SHIPMENT_NO
            fields:
              numbr: SHIPMENT_NO
              number: SHIPMENT_NO
              lines: {sku: ITEM, quantity: {from: QTY, decimal: ","}}
            """,
        routes__all="""\
            when: document == "Shipmnt"
            to: [finance, web-shop]
            """,
        sinks__finance="""\
            sink: finance
            kind: sql
            url: sqlite:///finance.db
            password: hunter2
            tables:
              Shipment: {table: shipment, key: [number], columns: {number: number}}
            """,
        sinks__broken="sink: broken\nkind: [sql\n",
    )
    with pytest.raises(ConfigInvalid) as raised:
        load(tree)
    found = [(p.file, p.line, p.path) for p in raised.value.problems if p.severity == "error"]
    assert found == [
        ("mappings/shipments.yaml", 5, "fields.numbr"),
        ("routes/all.yaml", 1, "when"),
        ("routes/all.yaml", 2, "to[1]"),
        ("sinks/broken.yaml", 3, ""),
        ("sinks/finance.yaml", 4, "password"),
        ("sites/atl1.yaml", 2, "zone"),
        ("sites/atl1.yaml", 5, "labels"),
        ("sites/rtm1.yaml", 2, "lables"),
        ("sources/erp.yaml", 3, "kind"),
        ("sources/shipments.yaml", 4, "lane"),
        ("sources/shipments.yaml", 6, "patern"),
        ("sources/shipments.yaml", 7, "format.delimiter"),
    ]
    assert "configuration has 12 error(s)" in str(raised.value)
    assert "hunter2" not in "".join(p.text() for p in raised.value.problems)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"sites__rtm1": "site: rtm1\nlables: {}\n"},
            "sites/rtm1.yaml:2: lables: unknown key 'lables' (did you mean 'labels'?)",
        ),
        (
            {"sites__rtm1": "labels: {}\n"},
            "sites/rtm1.yaml:1: 'site' is missing (its name, unique; join tokens and agents refer to it)",
        ),
        ({"sites__rtm1": ""}, "sites/rtm1.yaml:1: is empty (begin with 'site: rtm1', or delete the file)"),
        (
            {"sites__rtm1": "- a\n"},
            "sites/rtm1.yaml:1: does not hold 'key: value' lines (begin with 'site: rtm1', or delete the file)",
        ),
        (
            {"sites__rtm1": "site: RTM 1\n"},
            "sites/rtm1.yaml:1: site: 'RTM 1' is not a name (small letters, digits, '-', '_' and "
            "'.', beginning with a letter or digit)",
        ),
        ({"sites__rtm1": "site: 4711\n"}, "sites/rtm1.yaml:1: site: must be text (put it in quotes)"),
        (
            {"sites__rtm1": "site: rtm1\nlabels: {level: 5}\n"},
            "sites/rtm1.yaml:2: labels.level: must be text (put it in quotes)",
        ),
        (
            {"sites__rtm1": "site: rtm1\noutbox: {max_bytes: 10 GiBs}\n"},
            "sites/rtm1.yaml:2: outbox.max_bytes: is not a size (write it like '10 GiB' or '500 MB')",
        ),
        (
            {"sites__rtm1": "site: rtm1\noutbox: {max_byte: 1 GB}\n"},
            "sites/rtm1.yaml:2: outbox.max_byte: unknown key 'max_byte' (did you mean 'max_bytes'?)",
        ),
        ({"sites__rtm1": "site: rtm1\nstop_all: yes\n"}, "sites/rtm1.yaml:2: stop_all: must be true or false"),
        (
            {"sites__rtm1": "site: atl1\n"},
            "sites/rtm1.yaml:1: site: the site 'atl1' is declared in sites/atl1.yaml already (names "
            "are unique: rename one)",
        ),
        (
            {"routes__all": "when: true\nto: [finance]\n"},
            "routes/all.yaml:1: when: must be text (leave it out to take every event)",
        ),
        (
            {"routes__all": "when: document == 'Shipment'\nto: []\n"},
            "routes/all.yaml:2: to: must have entries, at least 1",
        ),
        (
            {"routes__all": "when: document == 'Shipment'\nto: [finanze]\n"},
            "routes/all.yaml:2: to[0]: there is no sink 'finanze' (did you mean 'finance'?)",
        ),
        (
            {"mappings__shipments": "mapping: other\nsource: wms-shipment\ndocument: Product\nfields: {sku: A}\n"},
            "mappings/shipments.yaml:2: source: there is no source 'wms-shipment' (did you mean 'wms-shipments'?)",
        ),
        (
            {"mappings__more": "mapping: more\nsource: wms-shipments\ndocument: Product\nfields: {sku: A}\n"},
            "mappings/shipments.yaml:1: mapping: the source 'wms-shipments' has a mapping already, "
            "in mappings/more.yaml (a source has one mapping: remove one)",
        ),
        (
            {"sinks__other": "sink: other\nkind: sqll\n"},
            "sinks/other.yaml:2: kind: unknown kind of sink 'sqll' (did you mean 'sql'?)",
        ),
        (
            {"sinks__finance": FINANCE + "\n    create_table: true\n"},
            "sinks/finance.yaml:7: create_table: unknown key 'create_table' (did you mean 'create_tables'?)",
        ),
    ],
)
def test_an_error_names_the_place_the_value_and_the_next_step(change: dict[str, str], text: str) -> None:
    assert text in texts(**change)


def test_a_broken_file_is_not_reported_again_by_those_who_refer_to_it() -> None:
    assert texts(sinks__finance="sink: finance\nkind: [sql\n") == [
        "sinks/finance.yaml:3: cannot be read as YAML: expected ',' or ']', but got '<stream end>', "
        "while parsing a flow sequence (check brackets, quotes and indentation at this line and above it)"
    ]
    assert all(
        problem.file == "sources/shipments.yaml"
        for problem in problems(sources__shipments="source: wms-shipments\nkind: file_drop\n  x: 1\n")
    )


def test_an_empty_tree_is_refused() -> None:
    assert [p.text() for p in inspect({})[1]] == [
        "sites: there is no site (add sites/NAME.yaml; an empty tree would stop everything)"
    ]


def test_a_variable_that_a_site_lacks_is_named_with_the_line_and_the_site() -> None:
    found = texts(sites__rtm1="site: rtm1\nlabels: {region: eu}\n")
    assert found == [
        "sources/shipments.yaml:5: directory: unknown variable ${wms_root} at rtm1 (add it to 'variables' of the site)"
    ]


def test_a_setting_that_is_wrong_only_with_one_sites_variable_is_found() -> None:
    changed = """\
        source: wms-shipments
        on: {}
        kind: file_drop
        directory: x
        pattern: "*"
        format: {kind: "${wms_root}"}
        """
    assert any(p.path == "format.kind" for p in problems(sources__shipments=changed))


def test_selectors_take_any_of_several_values_and_need_every_label() -> None:
    base = "source: wms-shipments\nkind: file_drop\ndirectory: x\npattern: '*'\nformat: {kind: csv}\n"

    def sites(selector: str) -> list[str]:
        loaded = load(small_tree(sources__shipments=base + f"on: {selector}\n"))
        return [site for site in sorted(loaded.sites) if loaded.sources_at(site)]

    assert sites("{}") == ["atl1", "rtm1"]
    assert sites("{region: us}") == ["atl1"]
    assert sites("{region: [us, eu]}") == ["atl1", "rtm1"]
    assert sites("{site: rtm1}") == ["rtm1"]
    assert sites("{site: rtm1, region: us}") == []


def test_what_is_allowed_but_probably_not_meant_is_a_warning() -> None:
    source = "source: wms-shipments\nkind: file_drop\ndirectory: x\npattern: '*'\nformat: {kind: csv}\n"
    found = problems(sources__shipments=source + "on: {regoin: us}\n")
    assert {p.severity for p in found} == {"warning"}
    assert [p.text() for p in found] == [
        "routes/all.yaml:1: when: no document that a mapping makes can match",
        "sites/atl1.yaml:1: site: no source runs at this site; its agents keep what they have "
        "('stop_all: true' stops them on purpose)",
        "sites/rtm1.yaml:1: site: no source runs at this site; its agents keep what they have "
        "('stop_all: true' stops them on purpose)",
        "sources/shipments.yaml:6: on: selects no site (no site has the label 'regoin'; did you mean 'region'?)",
    ]
    assert texts(mappings__shipments=None) == [
        "routes/all.yaml:1: when: no document that a mapping makes can match",
        "sources/shipments.yaml:1: source: no mapping belongs to it: its records are kept in the intake and become no "
        "document (add mappings/wms-shipments.yaml)",
    ]
    assert texts(routes__all="when: document == 'SalesOrder'\nto: [finance]\n") == [
        "mappings/shipments.yaml:2: document: no route takes its Shipment documents from atl1 "
        "(they stay in the event log only)",
        "mappings/shipments.yaml:2: document: no route takes its Shipment documents from rtm1 "
        "(they stay in the event log only)",
        "routes/all.yaml:1: when: no document that a mapping makes can match",
    ]
    assert texts(
        sites__rtm1="site: rtm1\nlabels: {}\nvariables: {wms_root: x}\n",
        routes__all="when: labels.region == 'us'\nto: [finance]\n",
    ) == [
        "mappings/shipments.yaml:2: document: no route takes its Shipment documents from rtm1 "
        "(they stay in the event log only)",
        "routes/all.yaml:1: when: cannot be decided at rtm1, and is not taken there: there is no 'region' "
        "(give every site the label, or ask has(labels.NAME))",
    ]


def test_a_column_that_the_format_does_not_have_is_found() -> None:
    source = """\
        source: wms-shipments
        on: {}
        kind: file_drop
        directory: x
        pattern: "*"
        format: {kind: csv, header: false, columns: [SHIPMENT_NO, ITEM, QUANTITY]}
        """
    assert texts(sources__shipments=source) == [
        "mappings/shipments.yaml:6: fields.lines.quantity: the source has no column 'QTY' "
        "(known: ITEM, QUANTITY, SHIPMENT_NO)"
    ]


def test_lines_that_stand_beside_the_fields_are_found_where_they_stand() -> None:
    mapping = """\
        mapping: wms-shipments
        document: Shipment
        each: SHIPMENT_NO
        fields:
          number: SHIPMENT_NO
        lines:
          sku: ITEM
          quantity: {from: QTY, as: decimul}
        """
    (found,) = texts(mappings__shipments=mapping)
    assert found.startswith("mappings/shipments.yaml:8: lines.quantity.as: ")


def test_a_site_gets_only_its_own_sources_with_its_own_variables() -> None:
    runtime = Runtime.from_tree(small_tree(sources__erp="""\
        source: erp
        on: {region: us}
        kind: sql_table
        connection: {odbc: "DSN=erp;PWD={secret:erp}", dialect: postgresql}
        table: orders
        mode: incrementing
        column: id
        """), 7)  # fmt: skip
    atl1 = siteconfig.decode(runtime.site_config("atl1"))
    rtm1 = siteconfig.decode(runtime.site_config("rtm1"))
    assert [(s.name, s.lane, s.settings.get("directory")) for s in atl1.sources] == [
        ("erp", "standard", None),
        ("wms-shipments", "critical", "D:/wms/out"),
    ]
    assert [(s.name, s.settings["directory"]) for s in rtm1.sources] == [("wms-shipments", "/srv/wms/out")]
    assert atl1.revision == rtm1.revision == 7
    assert b"erp" not in runtime.site_config("rtm1")
    assert b"{secret:erp}" in runtime.site_config("atl1")
    with pytest.raises(ConfigError, match="site 'ams1' is not in revision 7"):
        runtime.site_config("ams1")


def test_stop_all_stops_on_purpose_and_outbox_limits_travel() -> None:
    site = "site: rtm1\nstop_all: true\nvariables: {wms_root: x}\noutbox: {max_bytes: 500 MB, min_free_disk_bytes: 0}\n"
    config = siteconfig.decode(Runtime.from_tree(small_tree(sites__rtm1=site), 1).site_config("rtm1"))
    assert config.stop_all
    assert config.sources == []
    assert config.outbox == siteconfig.OutboxConfig(max_bytes=500_000_000, min_free_disk_bytes=0)


def test_a_runtime_has_an_engine_for_each_source_of_a_site_and_none_for_others() -> None:
    runtime = Runtime.from_tree(small_tree(), 3)
    engine = runtime.engine("atl1", "wms-shipments")
    assert engine is not None
    assert engine.revision == 3
    assert runtime.engine("atl1", "wms-shipments") is engine
    assert runtime.engine("atl1", "gone") is None
    assert runtime.engine("gone", "wms-shipments") is None
    assert Runtime.from_tree(small_tree(mappings__shipments=None), 3).engine("atl1", "wms-shipments") is None


def test_a_runtime_routes_and_knows_its_sinks() -> None:
    runtime = Runtime.from_tree(small_tree(), 3)
    assert runtime.router.route("Shipment", "S1", "atl1", "wms-shipments", runtime.labels("atl1"), Shipment("S1")) == (
        "finance",
    )
    assert runtime.labels("gone") == {}
    assert runtime.sinks["finance"].kind == "sql"
    assert runtime.sinks["finance"].typed().model_dump()["url"] == "sqlite:///finance.db"


def test_the_same_tree_compiles_to_the_same_bytes_whatever_its_order() -> None:
    tree = small_tree()
    first, second = Runtime.from_tree(tree, 1), Runtime.from_tree(dict(reversed(tree.items())), 1)
    assert first.site_config("atl1") == second.site_config("atl1")
    assert msgspec.json.decode(first.site_config("atl1"))["site"] == "atl1"


def test_a_tree_with_errors_makes_no_runtime() -> None:
    with pytest.raises(ConfigInvalid, match="there is no sink"):
        Runtime.from_tree(small_tree(sinks__finance=None), 1)


@pytest.mark.parametrize(
    ("format_", "name", "found"),
    [
        ("{kind: jsonl}", "lines", []),
        ("{kind: json, path: orders}", "lines", []),
        ("{kind: xml, element: Order, lists: [Lines/Line]}", "Lines/Line", []),
        ("{kind: xml, element: Order, lists: [Lines/Line]}", "Lines/Lines", ["did you mean 'Lines/Line'?"]),
        ("{kind: xml, element: Order}", "Lines/Line", ["name it in 'lists' of its format"]),
        ("{kind: csv}", "lines", ["a record here is flat; group records with 'each'"]),
    ],
)
def test_a_list_of_lines_is_where_its_format_can_have_one(format_: str, name: str, found: list[str]) -> None:
    source = f"source: o\non: {{}}\nkind: file_drop\ndirectory: in\nformat: {format_}\n"
    fields = f"{{number: no, lines: {{each: {name}, sku: sku, quantity: {{from: qty, uom: uom}}}}}}"
    mapping = f"mapping: o\ndocument: SalesOrder\nfields: {fields}\n"
    assert [
        problem.hint for problem in problems(sources__o=source, mappings__o=mapping) if "list" in problem.message
    ] == found

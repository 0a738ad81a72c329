"""A small sound tree, and trees made from it by changing, adding or leaving out files."""

from __future__ import annotations

from textwrap import dedent

SMALL = {
    "sites/atl1.yaml": """\
        site: atl1
        labels: {region: us}
        zone: America/New_York
        variables: {wms_root: D:/wms}
        """,
    "sites/rtm1.yaml": """\
        site: rtm1
        labels: {region: eu}
        variables: {wms_root: /srv/wms}
        """,
    "sources/shipments.yaml": """\
        source: wms-shipments
        on: {}
        kind: file_drop
        lane: critical
        directory: ${wms_root}/out
        pattern: "SHP*.csv"
        format: {kind: csv, delimiter: ";", encoding: cp1252}
        """,
    "mappings/shipments.yaml": """\
        mapping: wms-shipments
        document: Shipment
        each: SHIPMENT_NO
        fields:
          number: SHIPMENT_NO
          lines: {sku: ITEM, quantity: {from: QTY, decimal: ","}}
        """,
    "routes/all.yaml": """\
        when: document == "Shipment"
        to: [finance]
        """,
    "sinks/finance.yaml": """\
        sink: finance
        kind: sql
        url: sqlite:///finance.db
        tables:
          Shipment: {table: shipment, key: [number], columns: {number: number}}
        """,
}


def small_tree(**changes: str | None) -> dict[str, str]:
    """The small tree; a keyword such as `sites__atl1` replaces (or adds) sites/atl1.yaml, None leaves it out."""
    tree = {name: dedent(text) for name, text in SMALL.items()}
    for word, text in changes.items():
        name = word.replace("__", "/").replace("_", "-") + ".yaml"
        if text is None:
            del tree[name]
        else:
            tree[name] = dedent(text)
    return tree

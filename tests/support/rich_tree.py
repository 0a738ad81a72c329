"""A tree that uses everything: includes of includes, groups, two environments, a policy."""

from __future__ import annotations

from support.trees import small_tree

RICH = small_tree(
    sites__atl1="site: atl1\nlabels: {region: us, env: prod}\nvariables: {wms_root: '${share}/atl1'}\n",
    sites__rtm1="include: shared/site.yaml\nsite: rtm1\nlabels: {region: eu, env: test}\n",
    sites__yul1="site: yul1\nlabels: {region: ca, env: prod}\nlimits: {cpu_percent: 20}\n",
    sources__shipments="""\
        source: wms-shipments
        on: {region: [us, eu], env: {not: lab}}
        include: [shared/files.yaml, shared/csv.yaml]
        directory: ${wms_root}/out
        """,
    sources__stock="""\
        source: wms-stock
        on: {region: ca}
        include: shared/files.yaml
        directory: ${wms_root}/stock
        format: {kind: csv, delimiter: ","}
        """,
    mappings__stock="include: shared/mapping.yaml\nmapping: wms-stock\n",
    sinks__finance="""\
        include: shared/sink.yaml
        sink: finance
        url: sqlite:///${finance_db}
        """,
) | {
    "shared/site.yaml": "zone: Europe/Amsterdam\nvariables: {wms_root: '${share}/rtm'}\n",
    "shared/files.yaml": "include: shared/pace.yaml\nkind: file_drop\npattern: 'S*.csv'\n",
    "shared/pace.yaml": "lane: bulk\npoll_seconds: 30\n",
    "shared/csv.yaml": "format: {kind: csv, delimiter: ';', encoding: cp1252}\n",
    "shared/mapping.yaml": "document: Shipment\nfields: {number: NO}\n",
    "shared/sink.yaml": (
        "kind: sql\nretry_hours: 24\ntables:\n  Shipment: {table: shipment, key: [number], columns: {number: number}}\n"
    ),
    "groups/america.yaml": "on: {region: [us, ca]}\nvariables: {wms_root: '${share}/am'}\noutbox: {max_bytes: 2 GiB}\n",
    "groups/prod-ca.yaml": "on: {region: ca, env: prod}\nlimits: {cpu_percent: 50, memory: 300 MB}\n",
    "environments/prod.yaml": "on: {env: prod}\nvariables: {share: //prod, finance_db: finance.db}\n",
    "environments/test.yaml": "on: {env: test}\nvariables: {share: //test, finance_db: test.db}\n",
    "policy.yaml": "approvals:\n  - paths: ['sinks/*']\n    sites: {env: prod}\n    environments: [prod]\n",
}

"""The whole picture at one moment: controller, sites, sources, sinks, dead letters, and what to do next."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field

from crossdock.errors import ConfigError
from crossdock_controller.access import EVERYWHERE, Sites
from crossdock_controller.commands import approvals, identity
from crossdock_controller.commands.fleet import AgentView, SourceHealth, judged
from crossdock_controller.commands.risks import Risk, risks
from crossdock_controller.commands.rollout_views import RolloutView, narrowed
from crossdock_controller.commands.storage import StorageView, storage
from crossdock_controller.paths import DataDirectory, read_addresses
from crossdock_controller.served import served
from crossdock_controller.store import (
    agents,
    codes,
    connection,
    dead_letters,
    holds,
    normalizer,
    revisions,
    rollouts,
    strangers,
    views,
)

ANSWER_SECONDS = 0.5
LAG_SECONDS = 60.0  # what waits longer than this is behind
FULL_HOURS = 72.0  # an outbox that is full sooner is worth a word while its agent is away
OUTBOX_SHARE = 0.8  # an outbox this full is worth a word before it stops reading


@dataclass(frozen=True, slots=True)
class ControllerView:
    """*state*: "up" when its port answers, "down" when not, "starting" when it never published its addresses."""

    state: str
    data: str
    link: str
    enrollment: str


@dataclass(frozen=True, slots=True)
class RevisionHead:
    """*revision* is 0 before the first `apply`."""

    revision: int
    created_us: int
    author: str
    message: str


@dataclass(frozen=True, slots=True)
class SourceView:
    """*state* is the agent's word for it (running, throttled, waiting, quiet, paused, blocked, failing, stopped), or
    the agent's own when it is not connected. *outbox_records* is what the agent last said; *waiting_records* are not
    normalized yet."""

    site: str
    agent: str
    source: str
    state: str
    outbox_records: int
    received_records: int
    last_received_us: int
    waiting_records: int
    waiting_since_us: int
    problem: str
    hint: str


@dataclass(frozen=True, slots=True)
class DeadSummary:
    source: str
    kind: str
    code: str
    letters: int
    records: int


@dataclass(frozen=True, slots=True)
class Status:
    now_us: int
    controller: ControllerView
    store: StorageView
    revision: RevisionHead
    agents: list[AgentView]
    sources: list[SourceView]
    sinks: list[views.SinkView]
    dead: list[DeadSummary]
    next: list[str]
    rollout: RolloutView | None = None  # the one that runs, or the last one when its revision was taken back
    api: str = ""  # where the API answers now
    reminders: list[str] = field(default_factory=list)  # worth a word, and no trouble

    @property
    def healthy(self) -> bool:
        return not self.next


@served
def status(data: DataDirectory, now_us: int, within: Sites = EVERYWHERE) -> Status:
    """Everything at *now_us*, of the sites in *within*; sinks, which all sites share, as a whole. Reads only; works
    whether or not the controller runs."""
    controller = controller_view(data)
    store = storage(data, now_us)
    with closing(connection.connect(data.state)) as db:
        fleet = [a for a in judged(agents.list_all(db), now_us, identity.refused(db, now_us)) if within(a.site)]
        unknown = strangers.list_all(db) if within.everything else []
        known, number = revisions.list_all(db), revisions.head_number(db)
        head = next((r for r in known if r.number == number), None)
        rolled = _rollout(db, now_us)
        if rolled is not None and not rolled.live and (rolled.state == "complete" or rolled.revision < known[0].number):
            rolled = None
        rolled = narrowed(rolled, within) if rolled is not None else None
        decided = {i: c.at for i, c in normalizer.checkpoints(db).items()}
        stuck = {(p.site, p.agent, p.source): p.problem for p in normalizer.problems(db) if within(p.site)}
        sinks = views.sinks(db)
        dead = _dead(dead_letters.summary(db), within)
        held = sum(count for site, count in holds.count_open(db).items() if within(site))
        unknown_codes = len({(w.list, w.value) for w in codes.waiting(db) if within(w.site) and not w.said})
        unconfirmed, waiting = approvals.steps(db) if within.everything else ([], [])
    streams = [stream for stream in _streams(data, decided) if within(stream.site)]
    revision = (
        RevisionHead(head.number, head.created_us, head.author, head.message) if head else RevisionHead(0, 0, "", "")
    )
    sources = _sources(fleet, streams, stuck)
    steps = _steps(controller, revision, fleet, sources, sinks, dead, now_us)
    pressing = [
        r for r in risks(data, now_us, authorities_too=False, within=within).risks if r.pressing and not _on_the_page(r)
    ]
    steps += [f"{risk.sentence}: {risk.next}" for risk in pressing]
    steps += [f"agent {s.agent} is unknown here and refused: see crossdock agents" for s in unknown]
    if unknown_codes:
        steps.append(f"{_counted(unknown_codes, 'code')} without a meaning: crossdock codes list")
    if held:
        steps.append(f"{_counted(held, 'document')} held by a rule: crossdock holds list")
    steps = [*unconfirmed, *steps, *waiting]
    if store.step and (store.state != "stuck" or controller.state == "up"):
        steps.insert(0, store.step)
    if rolled is not None and rolled.why:
        steps.append(f"revision {rolled.revision} was taken back: {rolled.why}; crossdock rollout shows more")
    return Status(
        now_us,
        controller,
        store,
        revision,
        fleet,
        sources,
        sinks,
        dead,
        steps,
        rolled,
        _api(data),
        _reminders(data, within),
    )


def _api(data: DataDirectory) -> str:
    try:
        url = str(json.loads(data.api.read_text("utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):  # it never ran, or is just being written
        return ""
    return url if _answers(url.removeprefix("https://")) else ""


def _reminders(data: DataDirectory, within: Sites) -> list[str]:
    if not (data.first_token.exists() and within.everything):
        return []
    return [f"the first admin's token lies in {data.first_token}: with its first use it is gone"]


def _rollout(db: sqlite3.Connection, now_us: int) -> RolloutView | None:
    """What is behind it weighs, and most of the time there is none."""
    if rollouts.newest(db) is None:
        return None
    from crossdock_controller.commands import rollout

    return rollout.of_store(db, now_us)


def _on_the_page(risk: Risk) -> bool:
    """Whether the page says it already, in other words."""
    return risk.kind in {"unknown", "protocol"}


def _dead(rows: list[tuple[str, str, str, str, int, int]], within: Sites) -> list[DeadSummary]:
    """Of all sites in *within* together, most records first."""
    found: dict[tuple[str, str, str], list[int]] = {}
    for site, source, kind, code, letters, records in rows:
        if within(site):
            summed = found.setdefault((source, kind, code), [0, 0])
            summed[0] += letters
            summed[1] += records
    made = [DeadSummary(*key, letters, records) for key, (letters, records) in found.items()]
    return sorted(made, key=lambda d: (-d.records, d.source, d.kind, d.code))


def controller_view(data: DataDirectory) -> ControllerView:
    """Whether a controller answers on its port now."""
    try:
        addresses = read_addresses(data)
    except ConfigError:
        return ControllerView("starting", str(data.root), "", "")
    state = "up" if _answers(addresses.link) else "down"
    return ControllerView(state, str(data.root), addresses.link, addresses.enrollment)


def _answers(address: str) -> bool:
    """Whether anything listens at *address*, here or under its advertised name."""
    host, _, port = address.rpartition(":")
    for name in dict.fromkeys(("127.0.0.1", host.strip("[]"))):
        try:
            socket.create_connection((name, int(port)), ANSWER_SECONDS).close()
        except (OSError, ValueError):
            continue
        return True
    return False


def _streams(data: DataDirectory, decided: dict[int, normalizer.Position]) -> list[views.StreamView]:
    if not data.intake.exists():
        return []
    with closing(views.open_intake(data.intake)) as intake:
        return views.streams(intake, decided)


def _sources(
    fleet: list[AgentView], streams: list[views.StreamView], stuck: dict[tuple[str, str, str], str]
) -> list[SourceView]:
    """One row for each source at each agent, by site: whatever the agents speak of or the intake holds."""
    agents_by_name = {a.agent: a for a in fleet}
    told = {(a.site, a.agent, s.source): s for a in fleet for s in a.sources if a.state != "revoked"}
    held: dict[tuple[str, str, str], list[views.StreamView]] = {}
    for stream in streams:
        held.setdefault((stream.site, stream.agent, stream.source), []).append(stream)
    return [
        _source(key, agents_by_name.get(key[1]), told.get(key), held.get(key, []), stuck.get(key, ""))
        for key in sorted({*told, *held})
    ]


def _source(
    key: tuple[str, str, str],
    agent: AgentView | None,
    health: SourceHealth | None,
    streams: list[views.StreamView],
    stuck: str,
) -> SourceView:
    connected = agent is not None and agent.state == "connected"
    state = health.state if health is not None and connected else agent.state if agent is not None else "offline"
    waiting = [s.oldest_us for s in streams if s.waiting_records]
    return SourceView(
        *key,
        state=state if health is not None or not connected else "removed",
        outbox_records=health.pending_records if health is not None else 0,
        received_records=sum(s.records for s in streams),
        last_received_us=max((s.last_received_us for s in streams), default=0),
        waiting_records=sum(s.waiting_records for s in streams),
        waiting_since_us=min(waiting, default=0),
        problem=stuck or (health.error if health is not None else ""),
        hint=health.hint if health is not None and not stuck else "",
    )


def _steps(
    controller: ControllerView,
    revision: RevisionHead,
    fleet: list[AgentView],
    sources: list[SourceView],
    sinks: list[views.SinkView],
    dead: list[DeadSummary],
    now_us: int,
) -> list[str]:
    """What a person should do, most urgent first."""
    steps = []
    if controller.state != "up":
        steps.append(f"the controller does not answer: crossdock controller run --data {controller.data}")
    if not revision.revision:
        steps.append("there is no configuration yet: crossdock apply DIR")
    if not fleet:
        steps.append("no agent has enrolled: crossdock token create --site NAME")
    for agent in fleet:
        if agent.state in {"silent", "offline"} and controller.state == "up":
            steps.append(
                f"agent {agent.agent} is {agent.state}: at {agent.host or agent.site} run crossdock-agent check"
                + (f"; {full}" if (full := _full(agent, now_us)) else "")
            )
        if agent.config_state == "failed":
            steps.append(f"agent {agent.agent} refused revision {agent.desired_revision}: {agent.config_reason}")
        if agent.outbox.limit_bytes and agent.outbox.bytes > OUTBOX_SHARE * agent.outbox.limit_bytes:
            steps.append(f"the outbox of {agent.agent} is nearly full: reading stops at its limit, nothing is dropped")
        steps += [f"agent {agent.agent}: {problem}" for problem in agent.own_problems]
    steps += [
        f"source {s.source} at {s.site}: {s.problem}{f' ({s.hint})' if s.hint else ''}" for s in sources if s.problem
    ]
    steps += [step for sink in sinks if (step := _sink_step(sink, now_us))]
    if dead:
        letters = sum(d.letters for d in dead)
        steps.append(f"{letters} dead letter{'s' if letters > 1 else ''} to look at: crossdock dead list")
    return steps


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' if n > 1 else ''}"


def _full(agent: AgentView, now_us: int) -> str:
    """When the outbox of an agent that does not speak to us is full, if it reads on as it last did."""
    hours = (agent.outbox.fills_at_us - now_us) / 3.6e9
    if not agent.outbox.fills_at_us or hours > FULL_HOURS:
        return ""
    when = f"in about {hours:.0f} h" if hours >= 1 else "by now, or soon"
    return f"its outbox is full {when}, then its sources stop reading and keep their data"


def _sink_step(sink: views.SinkView, now_us: int) -> str:
    drain = f"; all would be delivered in about {_span(sink.drain_seconds)} of work" if sink.drain_seconds else ""
    if sink.problem:
        down = f" for {_span((now_us - sink.down_us) / 1e6)}" if sink.down_us else ""
        waits = f"; {sink.waiting:,} deliveries wait and none is given up{drain}" if sink.waiting else ""
        return f"sink {sink.sink} gives no verdict{down}: {sink.problem}{waits}"
    if sink.paused:
        return f"sink {sink.sink} is paused{_said(sink, now_us)}: crossdock sinks resume {sink.sink}"
    if sink.draining:
        return f"sink {sink.sink} sends what was due and pauses then{_said(sink, now_us)}"
    if sink.oldest_us and now_us - sink.oldest_us > LAG_SECONDS * 1_000_000:
        return f"sink {sink.sink} is behind{drain}: crossdock top shows whether it catches up"
    return ""


def _said(sink: views.SinkView, now_us: int) -> str:
    """Since when, by whom and why a person paused it."""
    if not sink.said_us:
        return ""
    because = f" ({sink.said_because})" if sink.said_because else ""
    return f" for {_span((now_us - sink.said_us) / 1e6)} by {sink.said_by}{because}"


def _span(seconds: float) -> str:
    """ "2 d 3 h", "12 min", "40 s"."""
    whole = round(seconds)
    for size, unit, smaller, small_unit in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit} {rest} {small_unit}" if rest else f"{whole // size} {unit}"
    return f"{max(whole, 1)} s"

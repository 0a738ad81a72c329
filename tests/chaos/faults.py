"""How each kind of fault of the schedule is done to the plant, and how it is lifted."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import ExitStack
from typing import cast

from chaos.damage import damage
from chaos.plant import Plant
from chaos.proxy import Direction, Proxy
from chaos.schedule import Fault

Lift = Callable[[], None]


def inject(plant: Plant, fault: Fault) -> Lift | None:
    """Do *fault* now; what ends it, or None when it had no effect (its target is down already)."""
    return _KINDS[fault.kind](plant, fault)


def _nothing() -> None:
    """The fault ends by itself."""


def _kill(plant: Plant, fault: Fault) -> Lift | None:
    return _nothing if plant.kill(fault.target, fault.seconds) else None


def _freeze(plant: Plant, fault: Fault) -> Lift | None:
    pid = plant.freeze(fault.target)
    return None if pid is None else lambda: plant.thaw(pid)


def _on_link(act: Callable[[Proxy, Fault], None]) -> Callable[[Plant, Fault], Lift | None]:
    def inject_it(plant: Plant, fault: Fault) -> Lift:
        proxy = plant.proxies[fault.target]
        act(proxy, fault)
        return proxy.heal

    return inject_it


def _web(plant: Plant, fault: Fault) -> Lift:
    if fault.word == "refused":
        plant.web.close_port()
        return plant.web.open_port
    plant.web.mode = fault.word

    def lift() -> None:
        plant.web.mode = ""

    return lift


def _locked(plant: Plant, fault: Fault) -> Lift | None:
    stack = ExitStack()
    try:
        stack.enter_context(plant.sql.locked(fault.target))
    except sqlite3.OperationalError:  # it is locked already, by us or by a sink that was stopped in its transaction
        return None
    return stack.close


def _push(plant: Plant, fault: Fault) -> Lift:
    plant.person.push(fault.word)
    return lambda: plant.person.push("")


def _disk(plant: Plant, fault: Fault) -> Lift:
    name = fault.target if fault.target.startswith("agent") else "controller"
    path = "outbox.db" if fault.target.startswith("agent") else fault.target
    plant.disk(name, fault.word, path)
    return lambda: plant.disk(name, "", "")


def _clock(plant: Plant, fault: Fault) -> Lift:
    plant.clock(fault.target, fault.value * 3600)
    return lambda: plant.clock(fault.target, 0.0)


def _expiry(plant: Plant, fault: Fault) -> Lift:
    """By the controller's clock every certificate has expired, and every connection must be made anew."""
    plant.clock("controller", fault.value * 3600)
    for proxy in plant.proxies.values():
        proxy.reset()
    return lambda: plant.clock("controller", 0.0)


def _lapse(plant: Plant, fault: Fault) -> Lift | None:
    return (lambda: plant.enrol_again(fault.target)) if plant.lapse(fault.target) else None


def _outbox(plant: Plant, fault: Fault) -> Lift | None:
    if not plant.kill(fault.target, 0.0):
        return None
    path = plant.state_of(fault.target.removeprefix("agent-")) / "outbox.db"
    return _nothing if damage(path, fault.word, int(fault.value)) else None


_KINDS: dict[str, Callable[[Plant, Fault], Lift | None]] = {
    "kill": _kill,
    "freeze": _freeze,
    "cut": _on_link(lambda proxy, _: proxy.cut()),
    "stall": _on_link(lambda proxy, _: proxy.stall()),
    "half-open": _on_link(lambda proxy, fault: proxy.half_open(cast("Direction", fault.word))),
    "reset": _on_link(lambda proxy, _: proxy.reset()),
    "limited": _on_link(lambda proxy, fault: proxy.limit(int(fault.value))),
    "web": _web,
    "locked": _locked,
    "push": _push,
    "disk": _disk,
    "clock": _clock,
    "expiry": _expiry,
    "outbox": _outbox,
    "lapse": _lapse,
    "slow": _on_link(lambda proxy, fault: proxy.slow(fault.value)),
}

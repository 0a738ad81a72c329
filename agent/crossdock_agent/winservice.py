"""The agent as a Windows service. The Service Control Manager is told RUNNING before anything else is done: it kills
what is still starting after 30 seconds, and an outbox may take longer to open.

What is of Windows here is three functions of advapi32; `Manager` has them, a test has its own.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from loguru import logger

from crossdock.errors import ConfigError, CrossdockError
from crossdock.lifecycle import Stop

NAME = "crossdock-agent"
STOP_WAIT_MS = 30_000  # how long stopping may take before it counts as hanging

OWN_PROCESS = 0x10
STOPPED, STOP_PENDING, RUNNING = 1, 3, 4
CONTROL_STOP, CONTROL_INTERROGATE, CONTROL_SHUTDOWN = 1, 4, 5
ACCEPT_STOP_AND_SHUTDOWN = 0x1 | 0x4
NO_ERROR, NOT_IMPLEMENTED, SERVICE_SPECIFIC = 0, 120, 1066
NOT_FROM_THE_MANAGER = 1063

if sys.platform == "win32":
    _function = ctypes.WINFUNCTYPE
else:
    _function = ctypes.CFUNCTYPE
MainFunction = _function(None, ctypes.c_uint32, ctypes.c_void_p)
HandlerFunction = _function(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_void_p, ctypes.c_void_p)


class Status(ctypes.Structure):
    """SERVICE_STATUS."""

    _fields_ = (
        ("type", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("accepts", ctypes.c_uint32),
        ("exit_code", ctypes.c_uint32),
        ("specific_exit_code", ctypes.c_uint32),
        ("check_point", ctypes.c_uint32),
        ("wait_hint_ms", ctypes.c_uint32),
    )


class TableEntry(ctypes.Structure):
    """SERVICE_TABLE_ENTRYW."""

    _fields_ = (("name", ctypes.c_wchar_p), ("main", MainFunction))


class Manager:
    """StartServiceCtrlDispatcherW, RegisterServiceCtrlHandlerExW, SetServiceStatus, and what GetLastError says."""

    def __init__(
        self,
        dispatch: Callable[[Any], int],
        register: Callable[[str, Any, None], Any],
        set_status: Callable[[Any, Any], int],
        last_error: Callable[[], int],
    ) -> None:
        self.dispatch = dispatch
        self.register = register
        self.set_status = set_status
        self.last_error = last_error


class Service:
    """*work* is the agent: it runs until the stop it is given, and raises what ended it otherwise."""

    def __init__(self, manager: Manager, work: Callable[[Stop], None]) -> None:
        self._manager = manager
        self._work = work
        self._stop = Stop()
        self._state = RUNNING
        self._handle: Any = None
        self._main = MainFunction(self._run)  # kept: the manager holds pointers only
        self._handler = HandlerFunction(self._control)

    def run(self) -> None:
        """Until the service has stopped. Raises ConfigError when it was not the manager that started this process."""
        table = (TableEntry * 2)(TableEntry(NAME, self._main), TableEntry())
        if not self._manager.dispatch(table):
            error = self._manager.last_error()
            if error == NOT_FROM_THE_MANAGER:
                raise ConfigError(
                    "this command is for the Service Control Manager",
                    hint=f"start the service: 'sc start {NAME}'; by hand it is 'crossdock-agent run'",
                )
            raise CrossdockError(f"the Service Control Manager refuses this process (error {error})")

    def _run(self, _count: int, _arguments: Any) -> None:
        """ServiceMain, on a thread of the manager's."""
        self._handle = self._manager.register(NAME, self._handler, None)
        self._report(RUNNING)
        code = 0
        try:
            self._work(self._stop)
        except CrossdockError as error:
            logger.error("the service ends: {}", error)
            code = 1
        except Exception as error:  # noqa: BLE001 - the manager must hear of the end, whatever it was
            logger.opt(exception=error).error("the service ends unexpectedly: {}", error)
            code = 2
        self._report(STOPPED, code)

    def _control(self, control: int, _event: int, _data: Any, _context: Any) -> int:
        """HandlerEx: returns at once."""
        if control in {CONTROL_STOP, CONTROL_SHUTDOWN}:
            self._report(STOP_PENDING)
            self._stop.set()
            return NO_ERROR
        if control == CONTROL_INTERROGATE:
            self._report(self._state)
            return NO_ERROR
        return NOT_IMPLEMENTED

    def _report(self, state: int, code: int = 0) -> None:
        self._state = state
        status = Status(
            type=OWN_PROCESS,
            state=state,
            accepts=ACCEPT_STOP_AND_SHUTDOWN if state == RUNNING else 0,
            exit_code=SERVICE_SPECIFIC if code else NO_ERROR,  # so that the recovery actions start it again
            specific_exit_code=code,
            wait_hint_ms=STOP_WAIT_MS if state == STOP_PENDING else 0,
        )
        if not self._manager.set_status(self._handle, ctypes.pointer(status)):
            logger.warning("the Service Control Manager was not told state {}", state)


if sys.platform == "win32":

    def of_windows() -> Manager:
        advapi32 = ctypes.WinDLL("advapi32", use_last_error=True)
        register = advapi32.RegisterServiceCtrlHandlerExW
        register.argtypes = [ctypes.c_wchar_p, HandlerFunction, ctypes.c_void_p]
        register.restype = ctypes.c_void_p
        set_status = advapi32.SetServiceStatus
        set_status.argtypes = [ctypes.c_void_p, ctypes.POINTER(Status)]
        set_status.restype = ctypes.c_int
        dispatch = advapi32.StartServiceCtrlDispatcherW
        dispatch.argtypes = [ctypes.POINTER(TableEntry)]
        dispatch.restype = ctypes.c_int
        return Manager(dispatch, register, set_status, ctypes.get_last_error)
else:

    def of_windows() -> Manager:
        raise ConfigError(
            "this command is for Windows services", hint="elsewhere the service runs 'crossdock-agent run'"
        )

"""The sockets of one client connection, and all that is done with them: read, write, hold, time, wait, cut.

Connections to targets are made here, as they may outlive the client. What waits must cost nothing, so its client is not
read meanwhile. Back-pressure is kept per direction: a side is read while the other has room for it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final

from mitmproxy.connection import Client, Connection, ConnectionState
from mitmproxy.proxy import events
from mitmproxy.proxy.commands import StartHook
from mitmproxy.utils import asyncio_utils

from addons.net.connect import TargetServer, connect
from addons.net.events import Retire, Stage, TimeUp, Wait
from addons.net.hooks import tell
from addons.net.tcp import TcpConnection

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Farewell:
    """Seconds of the end of a connection."""

    cut: float = 1.0
    """That a peer has to take what was on its way when a stream was cut."""
    linger: float = 5.0
    """That a client has to close after its last answer, and to take a refusal; what it sends meanwhile is thrown
    away."""
    look: float = 1.0
    """Between two looks at whether the client has taken the last answer."""


FAREWELL: Final = Farewell()
GRAIN: Final = 0.001
"""Seconds that libuv's clock tells apart: its timers are as much too early."""
MANY_ENDED: Final = 8
"""Connections of one client, those included that have ended, beyond which the latter are looked for."""
_READS: Final = (ConnectionState.OPEN, ConnectionState.CAN_READ)
_WRITES: Final = (ConnectionState.OPEN, ConnectionState.CAN_WRITE)
"""States in which one can; `&` of Python's flags costs a microsecond."""


class Sockets:
    """See the module's text. Made when a client has connected, before any of its bytes is read.

    They serve one stage after the other, until the last answer is written or they are closed, cut or aborted: then a
    stage is told nothing more, but at last that the client connection has ended.
    """

    def __init__(self, client: Client, tcp: TcpConnection, farewell: Farewell, over: Callable[[Client], None]) -> None:
        """`over` is called once, soon after the connection of `client` has been closed or lost."""
        self._farewell = farewell
        self._is_over = over
        self._loop = asyncio.get_running_loop()
        self._client = tcp
        self._open: dict[str, tuple[Connection, TcpConnection]] = {client.id: (client, tcp)}
        """By the identifier: mitmproxy's connections as keys would be hashed by a function of Python's."""
        self._dials: dict[Connection, asyncio.Task[None]] = {}
        self._stage: Stage | None = None
        self._over = self._told = False
        self._timer: asyncio.TimerHandle | None = None
        self._looks = self._due = 0.0
        """When the timer looks, and when `_then` is to be called, on the clock of the event loop."""
        self._then: Callable[[], None] | None = None
        self._wait = Wait.CLIENT
        """What the last `arm` was for."""
        self._number = 0
        self._on_close: list[Callable[[], None]] = []
        self.known: Callable[[], None] = _nothing
        """Is to be called once it is known who the client is."""
        self.retiring = False
        """The proxy is about to end: no request after the one that runs."""
        self.client = client
        self.source_ip = str(client.peername[0])

    @property
    def local_ip(self) -> str:
        """The address that the client has connected to."""
        return str(self.client.sockname[0])

    def serve(self, stage: Stage) -> None:
        """Give all that comes from now on to `stage`, in place of the one before it."""
        self._stage = stage
        for connection, tcp in self._open.values():
            if connection.state is not ConnectionState.CLOSED:
                self._serve(connection, tcp, stage)

    def dial(self, server: TargetServer, then: Callable[[str], None]) -> None:
        """Connect to a target; `then` gets why not, or nothing once it is open. `close` ends the attempt."""

        async def run() -> None:
            outcome: TcpConnection | str = ""
            try:
                outcome = await connect(server, self.client)
                self._dials.pop(server, None)
                if isinstance(outcome, TcpConnection):
                    self.adopt(server, outcome)
            except Exception as error:
                if isinstance(outcome, TcpConnection):
                    outcome.abort()
                self._failed(error)
            else:
                self._guard(then, outcome if isinstance(outcome, str) else "")
                if isinstance(outcome, TcpConnection):
                    # Not before there is somebody who minds its end.
                    outcome.start()

        task = asyncio_utils.create_task(run(), name="connector dial", keep_ref=True, client=self.client.peername)
        if not task.done():
            self._dials[server] = task

    def adopt(self, server: Connection, tcp: TcpConnection) -> None:
        """Serve an open connection to a target, and couple the two directions."""
        if len(self._open) > MANY_ENDED:
            self._drop_ended()
        self._open[server.id] = server, tcp
        if self._over:
            self.close(server)
            return
        if self._stage is not None:
            self._serve(server, tcp, self._stage)
        tcp.couple(self._client)

    def part(self, server: Connection) -> None:
        """An open connection to a target that is to outlive this client: it is nothing of ours any more."""
        _, tcp = self._open.pop(server.id)
        tcp.uncouple()
        tcp.leave_alone()
        tcp.release()

    def tcp(self, connection: Connection) -> TcpConnection:
        """Of an open connection."""
        return self._open[connection.id][1]

    def sender(self, connection: Connection) -> Callable[[bytes | memoryview], None]:
        """What writes to an open connection."""
        return self._open[connection.id][1].send

    def finish(self, connection: Connection) -> None:
        """Send FIN after what was sent; the other side may go on."""
        state = connection.state
        if state not in _WRITES:
            return
        _, tcp = self._open[connection.id]
        if not tcp.finish():
            return
        connection.state = ConnectionState.CAN_READ if state in _READS else ConnectionState.CLOSED
        if connection.state is ConnectionState.CLOSED and not tcp.unsent:
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """End a connection, or the attempt to have one; what was sent still goes out."""
        connection.state = ConnectionState.CLOSED
        found = self._open.get(connection.id)
        if found is not None:
            found[1].end()
        elif (dial := self._dials.pop(connection, None)) is not None:
            dial.cancel()
        if connection is self.client:
            self._over = True
            if not self._told:
                self._told = True
                self._loop.call_soon(self._is_over, self.client)

    def hold(self, connection: Connection | None = None) -> None:
        """Do not read `connection` (default: the client) until `release`."""
        (self._client if connection is None else self.tcp(connection)).hold()

    def release(self, connection: Connection | None = None) -> None:
        (self._client if connection is None else self.tcp(connection)).release()

    def arm(self, seconds: float, wait: Wait) -> int:
        """Deliver a TimeUp in `seconds`, in place of the timer that runs; returns its number."""
        self._number += 1
        self._wait = wait
        self._call_in(seconds, self._time_up)
        return self._number

    def disarm(self) -> None:
        self._then = None

    def linger(self, *, patient: bool) -> None:
        """The last answer is written: give the client time to take it, so that it sees that and no reset.

        `patient`: as long as it wants, like in the middle of an answer.
        """
        self._over = True
        self.disarm()
        self._client.discard()
        if patient and self._client.unsent:
            self._call_in(self._farewell.look, partial(self.linger, patient=True))
        elif self.client.state is ConnectionState.CLOSED:
            self.close(self.client)
        else:
            self._call_in(self._farewell.linger, self.abort)

    def cut(self) -> None:
        """End both sides without a farewell; the client gets some time to take what is on its way to it."""
        self.disarm()
        for connection, tcp in self._open.values():
            if tcp is not self._client:
                tcp.transport.abort()
                self.close(connection)
        self._client.transport.close()
        self.close(self.client)

    def abort(self) -> None:
        """End both sides now."""
        self.disarm()
        for connection, tcp in self._open.values():
            tcp.transport.abort()
            self.close(connection)

    def wait_for[T](self, name: str, work: Coroutine[Any, Any, T], otherwise: T, then: Callable[[T], None]) -> None:
        """Give `then` what `work` returns, or `otherwise` where it raises; not if the stage has ended meanwhile.

        `name` is for the log.
        """

        async def run() -> None:
            try:
                result = await work
            except Exception as error:
                # The text might hold what was sent.
                logger.error("%s failed: %s", name, type(error).__name__)
                result = otherwise
            self._guard(then, result)

        asyncio_utils.create_task(run(), name=f"connector {name}", keep_ref=True)

    def ask(self, hook: StartHook, then: Callable[[], None]) -> None:
        """Run a hook, and then `then`, unless the stage has ended meanwhile."""
        self.tell(hook, lambda: self._guard(lambda _: then(), None))

    def tell(self, hook: StartHook, then: Callable[[], None]) -> None:
        """Run a hook that nobody waits for, and `then` a function."""

        async def run() -> None:
            await tell(hook)
            then()

        asyncio_utils.create_task(run(), name=f"connector hook {hook.name}", keep_ref=True)

    @property
    def client_gone(self) -> bool:
        """True if the client has closed its side, whether that was read or not."""
        return self._client.gone

    @property
    def client_left_unread(self) -> bool:
        """True if the client has gone and that does not show, as it is not read."""
        return not self._client.reads and self._client.gone

    @property
    def client_dead(self) -> bool:
        """True if nothing can be sent to the client either."""
        return self._client.dead

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the client connection has ended."""
        self._on_close.append(callback)

    def closed(self) -> None:
        """The client connection has ended: nothing of it may stay for a peer that does not read."""
        self.disarm()
        self._over = True
        stage, self._stage = self._stage, None
        callbacks, self._on_close = self._on_close, []
        try:
            for callback in callbacks:
                callback()
            if stage is not None:
                stage.closed()
        finally:
            self._leave_targets()

    def _leave_targets(self) -> None:
        for dialled in tuple(self._dials):
            self.close(dialled)
        waits = False
        for connection, tcp in self._open.values():
            if connection.state is not ConnectionState.CLOSED:
                self.close(connection)
            waits = waits or bool(tcp.unsent)
        if waits:
            self._call_in(self._farewell.cut, self._forget)
        else:
            self._forget()

    def deliver(self, event: events.Event) -> None:
        """Give `event` to the stage."""
        if isinstance(event, Retire):
            self.retiring = True
        if self._stage is not None:
            self._guard(self._stage.tell, event)

    def _guard[T](self, then: Callable[[T], None], value: T) -> None:
        if self._over or self._stage is None:
            return
        try:
            then(value)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """What a stage raises: mitmproxy and asyncio would log it, and leave the connection as it is."""
        # Neither the text nor the locals of an error of ours hold what was sent; those of others might.
        logger.error("connection ended: %s in the data path", type(error).__name__, exc_info=_without_text(error))
        self.abort()

    def _forget(self) -> None:
        self._then = None
        if self._timer is not None:
            self._timer.cancel()
        for _, tcp in self._open.values():
            tcp.forget()
        self._open.clear()

    def _drop_ended(self) -> None:
        """Of targets: a client may have any number of them, one after the other."""
        for each, (connection, tcp) in tuple(self._open.items()):
            if connection.state is ConnectionState.CLOSED and connection is not self.client and not tcp.unsent:
                del self._open[each]

    def _call_in(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` in `seconds`, in place of what waits.

        A timer that runs goes on where it looks before that: to make and to cancel one costs more than what most of
        them watch, each of which is over long before its time.
        """
        self._then = then
        self._due = self._loop.time() + seconds
        if self._timer is not None:
            if self._looks <= self._due:
                return
            self._timer.cancel()
        self._looks = self._due
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self._timer = None
        then = self._then
        if then is None:
            return
        left = self._due - self._loop.time()
        if left > GRAIN:
            self._call_in(left, then)
            return
        self._then = None
        then()

    def _time_up(self) -> None:
        self.deliver(TimeUp(self._wait, self._number))

    def _serve(self, connection: Connection, tcp: TcpConnection, stage: Stage) -> None:
        tcp.deliver = partial(stage.received, connection)
        tcp.ended = partial(self._ended, connection)
        tcp.failed = self._failed

    def _ended(self, connection: Connection, lost: bool) -> None:
        state = connection.state
        known = state not in _READS
        goes_on = state in _WRITES and not lost
        connection.state = ConnectionState.CAN_WRITE if goes_on else ConnectionState.CLOSED
        if self._stage is not None and not self._over and not known:
            self._stage.ended(connection)
        if connection.state is ConnectionState.CLOSED:
            self.close(connection)


class PlainStream:
    """A connection without TLS, as `net.tls.Stream`."""

    def __init__(self, connection: Connection, sockets: Sockets) -> None:
        self.connection = connection
        self.ended = False
        self.cut_off = False
        self.receive: Callable[[bytes | memoryview], bytes] = bytes
        self.send = sockets.sender(connection)
        self._sockets = sockets

    def finish(self, *, whole: bool = True) -> None:
        """Send FIN; plain text has no other way to say that it is whole."""
        self._sockets.finish(self.connection)


def _without_text(error: BaseException) -> tuple[type[BaseException], BaseException, TracebackType | None]:
    return RuntimeError, RuntimeError(type(error).__name__), error.__traceback__


def _nothing() -> None:
    pass

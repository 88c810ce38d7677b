"""Connections that no client can hold for nothing: their number, their idle time and unread replies are bounded.

uvicorn bounds the time between two requests alone (https://github.com/Kludex/uvicorn/issues/157): a client that sends
nothing, or a byte of its headers now and then, or does not read its reply, would keep a file descriptor for ever.
"""

import asyncio
import resource
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 4096
OTHER_FILES = 128  # file descriptors for all but connections
SECONDS_YOUNG = 1.0  # within which a new connection is not closed for another
SECONDS_AT_END = 0.05  # in which a request that was sent before the end is read


class Crowd:
    """All connections of a server.

    Args:
        most: Most at a time; for a further one, the one without a request for longest is closed.
        seconds_idle: After which a connection without a whole request is closed.
        seconds_unread: After which a connection is closed whose client does not read.

    Attributes:
        idle: Since when connections have had no request under way, longest first.
    """

    def __init__(self, most: int, seconds_idle: float = 30.0, seconds_unread: float = 30.0) -> None:
        self.most, self.seconds_idle, self.seconds_unread = most, seconds_idle, seconds_unread
        self.all: set[Connection] = set()
        self.idle: dict[Connection, float] = {}

    def protocol(self) -> Any:
        """Return what makes a connection, for uvicorn's option `http`."""
        return partial(Connection, crowd=self)

    def has_room(self) -> bool:
        """Return whether another connection may come, if need be for one that does nothing."""
        if len(self.all) < self.most:
            return True
        oldest = next(iter(self.idle), None)
        if oldest is None or monotonic() - self.idle[oldest] < SECONDS_YOUNG:
            return False
        oldest.cut()
        return True


class Lingering:
    """A transport that a client may go on sending to after its reply; closed at once, it might lose the reply.

    Args:
        transport: The real one.
        is_sent_to: Says whether the client has more to send.
    """

    def __init__(self, transport: asyncio.Transport, is_sent_to: Callable[[], bool]) -> None:
        self._transport, self._is_sent_to, self.lingers = transport, is_sent_to, False

    def close(self) -> None:
        """Close it now, or only its own side while the client sends."""
        if self._is_sent_to() and not self._transport.is_closing():
            self.lingers = True
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()

    def is_closing(self) -> bool:
        """Whether nothing more can be said."""
        return self.lingers or self._transport.is_closing()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Connection(H11Protocol):
    """A connection of uvicorn's that is closed when it does nothing for long.

    Args:
        crowd: All connections.
        options: Of uvicorn's.
    """

    def __init__(self, *, crowd: Crowd, **options: Any) -> None:
        super().__init__(**options)
        self.crowd = crowd
        self.idle_timer: asyncio.TimerHandle | None = None
        self.unread_timer: asyncio.TimerHandle | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a whole head of a request has come whose reply is not yet complete."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def lingers(self) -> bool:
        """Whether the client still sends what nobody reads."""
        return bool(getattr(self.transport, "lingers", False))

    def cut(self) -> None:
        """Close it without waiting for the client."""
        self._forget()
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Let it in, or close it if there are too many."""
        lingering = Lingering(transport, lambda: self.conn.their_state is h11.SEND_BODY)
        super().connection_made(cast(asyncio.Transport, lingering))
        if not self.crowd.has_room():
            transport.abort()
            return
        self.crowd.all.add(self)
        self._rest()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends; a beginning of a request does not make it busy."""
        if self.lingers:
            return
        super().data_received(data)
        if self.is_busy:
            self._stop_resting()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._rest()
        super().on_response_complete()  # which may begin a request that has been waiting
        if self.is_busy:
            self._stop_resting()

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        super().pause_writing()
        self.unread_timer = self.loop.call_later(self.crowd.seconds_unread, self.cut)

    def resume_writing(self) -> None:
        """Go on, as the client has read."""
        self._cancel("unread_timer")
        super().resume_writing()

    def shutdown(self) -> None:
        """End after the request under way, and after one that lies unread in the socket."""
        if self.is_busy:
            super().shutdown()
        elif self.lingers:
            self.cut()
        else:
            self.loop.call_later(SECONDS_AT_END, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        self._forget()
        super().connection_lost(exc)

    def _rest(self) -> None:
        if self not in self.crowd.all:
            return
        self._stop_resting()
        self.crowd.idle[self] = monotonic()
        self.idle_timer = self.loop.call_later(self.crowd.seconds_idle, self.cut)

    def _stop_resting(self) -> None:
        self.crowd.idle.pop(self, None)
        self._cancel("idle_timer")

    def _forget(self) -> None:
        self._stop_resting()
        self._cancel("unread_timer")
        self.crowd.all.discard(self)

    def _cancel(self, name: str) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)

    def _end(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()


def most_connections() -> int:
    """Let this process open as many files as it may, and return how many connections that allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(1, soft - OTHER_FILES))

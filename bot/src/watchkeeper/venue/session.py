"""ccxt's streaming class with the few hooks that this adapter needs; everything else is ccxt's.

The implicit API is used (``fapiPrivatePostOrder`` and so on): ccxt signs, sends and reads errors,
and numbers arrive as the venue wrote them. Its unified calls would load every market first and
turn numbers into floats.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import msgspec

from watchkeeper.venue.address import connector
from watchkeeper.venue.ccxt_import import load_class
from watchkeeper.venue.errors import Reply, read_reply

# Milliseconds between pings on a stream. ccxt gives a stream up after two without a pong.
KEEP_ALIVE_MS = 10_000

#: The answer to the request that the current task has in flight.
last_reply: ContextVar[Reply] = ContextVar("last_reply")


class Connected(msgspec.Struct, frozen=True):
    """A stream's socket is up."""


class Broken(msgspec.Struct, frozen=True):
    """A stream's socket is gone. ``reason`` holds no URL: those of private streams are secret."""

    reason: str


class Hooks(msgspec.Struct, frozen=True):
    """What the session asks and tells its owner."""

    now_ms: Callable[[], int]
    on_headers: Callable[[dict[str, str]], None]


def open_session(
    hooks: Hooks,
    *,
    venue_id: str,
    api_key: str,
    api_secret: str,
    ca_file: str,
    address: str,
    timeout_ms: int,
    recv_window_ms: int,
) -> Any:
    """A session of a venue. Nothing is sent yet.

    Args:
        hooks: see there.
        venue_id: ccxt's id of it.
        api_key: empty for public data only.
        api_secret: empty for public data only.
        ca_file: the only CA to trust; empty for the public ones (certifi's, whatever the
            environment says).
        address: ``HOST:PORT`` to connect to whatever host is asked for; empty for the hosts.
        timeout_ms: of one request, connecting included.
        recv_window_ms: how old a signed request may be when the venue reads it.
    """
    settings: dict[str, Any] = {
        "apiKey": api_key,
        "secret": api_secret,
        "timeout": timeout_ms,
        "enableRateLimit": False,  # see pacing
        "timeout_on_exit": 0,
        "streaming": {"keepAlive": KEEP_ALIVE_MS},
        "options": {"recvWindow": recv_window_ms},
        **_SETTINGS.get(venue_id, {}),
    }
    if ca_file:
        settings["cafile"] = ca_file
    session = _session_class(venue_id)(settings)
    # ccxt logs whole requests, headers and signatures included, at DEBUG.
    session.logger = logging.Logger("watchkeeper.venue.ccxt", logging.CRITICAL + 1)  # noqa: LOG001
    session.hooks = hooks
    session.address = address
    session.closing = set()
    return session


_BASES = {"binanceusdm": "binance"}
# Kraken's key check is a service of its own, which ccxt does not know; and it asks for orders with
# GET where the venue documents POST.
_KEY_CHECK = "api-keys/v3/check"
_ENDPOINTS = {
    "krakenfutures": {
        "authGetApiKeysV3Check": (_KEY_CHECK, "auth", "GET"),
        "privatePostOrdersStatus": ("orders/status", "private", "POST"),
    }
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "krakenfutures": {
        "urls": {"api": {"auth": "https://futures.kraken.com/api/auth/"}},
        "options": {
            "versions": {"auth": {"GET": {_KEY_CHECK: "v1"}}},
            "access": {"auth": {"GET": {_KEY_CHECK: "private"}}},
        },
    }
}


@functools.cache
def _session_class(venue_id: str = "binanceusdm") -> type[Any]:
    """The class, made on first use: importing ccxt is most of a program's start."""
    base: Any = load_class(venue_id, base=_BASES.get(venue_id))

    class Session(base):  # type: ignore[misc]
        """Signs with venue time, reports every answer, hands over raw stream messages."""

        hooks: Hooks
        address: str
        session: Any  # ccxt's own, of aiohttp; None before the first request
        closing: set[asyncio.Future[None]]  # sockets given up while they were dialling

        def open(self, lazy: bool = False) -> None:
            """Called before each request; makes ccxt's connections."""
            if self.address and self.session is None and not (lazy and self.closed_by_user):
                import aiohttp  # noqa: PLC0415 - loaded with ccxt

                self.ssl_context = ssl.create_default_context(cafile=self.cafile)
                self.tcp_connector = connector(self.address, self.ssl_context)
                self.session = aiohttp.ClientSession(connector=self.tcp_connector)
            super().open(lazy)

        def nonce(self) -> int:
            """Called while a request is signed, right before it is sent."""
            return self.hooks.now_ms()

        def on_rest_response(
            self,
            code: int,
            reason: str,
            url: str,
            method: str,
            response_headers: dict[str, str],
            response_body: str,
            request_headers: Any,
            request_body: Any,
        ) -> Any:
            """Error answers pass here, too, before ccxt makes exceptions of them."""
            seen, reply = last_reply.get(None), read_reply(code, response_headers, response_body)
            if seen is not None:
                seen.status, seen.code = reply.status, reply.code
                seen.text, seen.retry_after_s = reply.text, reply.retry_after_s
                seen.body = reply.body
            self.hooks.on_headers(response_headers)
            return super().on_rest_response(
                code,
                reason,
                url,
                method,
                response_headers,
                response_body,
                request_headers,
                request_body,
            )

        def on_connected(self, client: Any, message: Any = None) -> None:
            super().on_connected(client, message)
            client.inbox.put_nowait(Connected())

        def handle_message(self, client: Any, message: Any) -> None:
            """Every frame goes to whoever reads the stream; ccxt's caches may drop some."""
            client.inbox.put_nowait(message)

    if venue_id in _ENDPOINTS:
        from ccxt.base.types import Entry  # noqa: PLC0415 - loaded with the class

        for name, (path, api, method) in _ENDPOINTS[venue_id].items():
            setattr(Session, name, Entry(path, [api], method, {"cost": 1}))
        # The venue writes amounts as JSON numbers: as text no digit is lost.
        Session.on_json_response = functools.partial(json.loads, parse_float=str)
    return Session

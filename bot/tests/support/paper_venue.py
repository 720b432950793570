"""A real paper venue for tests: its process, its admin API, and the way clients reach it.

Tests have neither root nor port 443, so the venue answers on a loopback port of its own while its
clients use the real host names. Two ways lead there, and both leave ccxt as it is:

In the test's own process, an aiohttp session whose resolver knows only the venue::

    with PaperVenue(tmp_path) as venue:
        async with venue.session() as session:
            exchange = ccxt.pro.binanceusdm({**venue.credentials(), "session": session})

ccxt uses a session it is given for REST and websockets alike. The session carries the private CA.
``venue.names_resolve_here()`` does the same for code that makes its own session (then it must be
told the CA: ``cafile=str(venue.ca_path)``).

In another process, ``env=venue.environment()``: a ``sitecustomize`` on PYTHONPATH makes every
``*.binance.com`` and ``*.kraken.com`` name resolve to the venue, and to nothing else. The program
must be told the CA.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import aiohttp

Json = dict[str, Any]

START_TIMEOUT_S = 90.0
VENUE_DOMAINS = (".binance.com", ".kraken.com")
BINANCE, KRAKEN = "binanceusdm", "krakenfutures"
_REDIRECT = Path(__file__).parent / "redirect"


def secret_of(alias: str, venue: str = BINANCE) -> str:
    """The secret of an account's key, in the form its venue has."""
    secret = f"secret-{alias}"
    return secret if venue == BINANCE else base64.b64encode(secret.encode()).decode()


class AdminFailure(AssertionError):
    """The admin API said no: ``status`` and the text it gave."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class AdminClient:
    """The admin API, one method for each call; see docs/paper-venue.md."""

    def __init__(self, port: int) -> None:
        self._port = port

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """The decoded answer.

        Raises:
            AdminFailure: any status but 200.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer: Json = json.loads(response.read())
        finally:
            connection.close()
        if response.status != 200:
            raise AdminFailure(response.status, answer["error"])
        return answer

    def health(self) -> Json:
        return self.call("GET", "/health")

    def misses(self) -> dict[str, int]:
        return dict(self.call("GET", "/misses")["misses"])

    def open_account(
        self,
        alias: str = "ALPHA01",
        *,
        api_key: str | None = None,
        api_secret: str | None = None,
        balance: str = "10000",
        permissions: Json | None = None,
        venue: str = BINANCE,
    ) -> Json:
        """Open an account; key and secret are made from the alias unless they are given."""
        body: Json = {
            "alias": alias,
            "api_key": api_key or f"key-{alias}",
            "api_secret": api_secret or secret_of(alias, venue),
            "balance": balance,
            "venue": venue,
        }
        if permissions is not None:
            body["permissions"] = permissions
        return self.call("POST", "/accounts", body)

    def accounts(self) -> list[str]:
        return list(self.call("GET", "/accounts")["accounts"])

    def state(self, alias: str = "ALPHA01") -> Json:
        return self.call("GET", f"/accounts/{quote(alias)}/state")

    def deposit(self, amount: str, alias: str = "ALPHA01") -> Json:
        return self.call("POST", f"/accounts/{quote(alias)}/wallet", {"amount": amount})

    def fault(
        self,
        kind: str,
        *,
        times: int | None = 1,
        match: Json | None = None,
        **effect: Any,
    ) -> int:
        """Arm a fault, by default for one request; returns its id.

        ``chance``, ``seed``, ``after_s`` and ``for_s`` are the fault's, all else its effect's.
        ``fault("lost_after", match={"method": "POST", "path": "/fapi/v1/order"}, hold_s=3)``
        """
        of_fault: Json = {
            name: effect.pop(name)
            for name in ("chance", "seed", "after_s", "for_s")
            if name in effect
        }
        body: Json = {"match": match or {}, "effect": {"kind": kind, **effect}, "times": times}
        body |= of_fault
        return int(self.call("POST", "/faults", body)["id"])

    def plan_faults(self, seed: int, **fields: Any) -> Json:
        """Arm what a seed stands for; returns the plan."""
        return self.call("POST", "/faults/plan", {"seed": seed, **fields})

    def clock(self, offset_ms: int) -> None:
        """How far the venue's clock is ahead of this machine's from now on."""
        self.call("POST", "/clock", {"offset_ms": offset_ms})

    def latency(self, median_ms: float, **fields: Any) -> None:
        self.call("POST", "/latency", {"median_ms": median_ms, **fields})

    def fund(self, rate: str, symbol: str = "BTCUSDT") -> None:
        """Settle funding now."""
        self.call("POST", f"/market/{symbol}/funding", {"rate": rate})

    def faults(self) -> list[Json]:
        return list(self.call("GET", "/faults")["faults"])

    def hits(self, fault_id: int) -> int:
        """How many requests a fault has hit."""
        return next(int(fault["hits"]) for fault in self.faults() if fault["id"] == fault_id)

    def clear_faults(self, fault_id: int | None = None) -> None:
        self.call("DELETE", "/faults" if fault_id is None else f"/faults/{fault_id}")

    def hand_order(
        self,
        symbol: str,
        side: str,
        quantity: str,
        *,
        type: str = "MARKET",  # noqa: A002 -- the venue's word
        alias: str = "ALPHA01",
        **fields: Any,
    ) -> Json:
        """Place an order as another hand. ``fields``: price, stop_price, reduce_only, client_id."""
        body = {"symbol": symbol, "side": side, "type": type, "quantity": quantity, **fields}
        return self.call("POST", f"/hand/{quote(alias)}/order", body)

    def hand_cancel(self, symbol: str, *, alias: str = "ALPHA01", **key: Any) -> Json:
        """Cancel as another hand, by ``order_id``, ``algo_id`` or ``client_id``."""
        return self.call("POST", f"/hand/{quote(alias)}/cancel", {"symbol": symbol, **key})

    def hand_close(self, symbol: str, *, alias: str = "ALPHA01") -> Json:
        return self.call("POST", f"/hand/{quote(alias)}/close", {"symbol": symbol})

    def hand_mode(self, *, hedge: bool, alias: str = "ALPHA01") -> Json:
        return self.call("POST", f"/hand/{quote(alias)}/mode", {"hedge": hedge})

    def market(self, symbol: str = "BTCUSDT") -> Json:
        return self.call("GET", f"/market/{symbol}")

    def price(self, price: object, symbol: str = "BTCUSDT", *, mark: object = None) -> Json:
        """Jump to a price."""
        body: Json = {"price": str(price)}
        if mark is not None:
            body["mark"] = str(mark)
        return self.call("POST", f"/market/{symbol}/price", body)

    def depth(self, quantity: str, symbol: str = "BTCUSDT") -> Json:
        """Quantity at each price level: small ones make large orders fill in parts."""
        return self.call("POST", f"/market/{symbol}/depth", {"quantity": quantity})

    def rules(self, symbol: str = "BTCUSDT", **terms: object) -> Json:
        """Change the symbol's rules until the venue is started again: ``listed``,
        ``min_quantity``."""
        return self.call("POST", f"/market/{symbol}/rules", terms)

    def pause(self) -> None:
        self.call("POST", "/market/pause")

    def resume(self) -> None:
        self.call("POST", "/market/resume")

    def speed(self, speed: float) -> None:
        self.call("POST", "/market/speed", {"speed": speed})

    def drop_streams(self, alias: str | None = None) -> int:
        """Cut websockets: of one account, or all."""
        body = {} if alias is None else {"account": alias}
        return int(self.call("POST", "/streams/drop", body)["dropped"])

    def private_delay(self, delay_ms: int) -> None:
        """How much later than confirmed a private feed of Kraken's goes live."""
        self.call("POST", "/streams/delay", {"delay_ms": delay_ms})

    def events(
        self, *, after: int = 0, kind: str | None = None, alias: str | None = None
    ) -> list[Json]:
        """All events after ``after``, oldest first, of one kind if given."""
        found: list[Json] = []
        while True:
            query: dict[str, object] = {"after": after, "limit": 10_000}
            if alias is not None:
                query["account"] = alias
            page = self.call("GET", f"/events?{urlencode(query)}")["events"]
            found.extend(event for event in page if kind in {None, event["kind"]})
            if len(page) < 10_000:
                return found
            after = page[-1]["seq"]

    def wait_for(
        self, condition: Callable[[Json], bool], *, after: int = 0, timeout_s: float = 20.0
    ) -> Json:
        """The first event for which ``condition`` holds, waiting for it if need be."""
        deadline = time.monotonic() + timeout_s
        while True:
            for event in self.events(after=after):
                after = event["seq"]
                if condition(event):
                    return event
            if time.monotonic() > deadline:
                raise AssertionError(f"no such event within {timeout_s} s, last was {after}")
            time.sleep(0.02)


class Reply(NamedTuple):
    """An answer on the wire; ``code`` is the venue's error code, None if there is none."""

    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> int | None:
        code = self.body.get("code") if isinstance(self.body, dict) else None
        return code if isinstance(code, int) and code < 0 else None


class WireClient:
    """A connection to the venue under one of its names, without any library between."""

    HOST = "fapi.binance.com"

    def __init__(self, venue: PaperVenue) -> None:
        self._venue = venue
        self._context = ssl.create_default_context(cafile=str(venue.ca_path))
        self._connection: http.client.HTTPConnection | None = None

    def exchange(self, method: str, path: str, body: str | None, headers: dict[str, str]) -> Reply:
        """Send a request as it is; the answer's body is decoded JSON."""
        connection = self._connect()
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            raise
        return Reply(response.status, dict(response.getheaders()), json.loads(text))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        if self._connection is None:
            raw = socket.create_connection(("127.0.0.1", self._venue.port), timeout=20)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = http.client.HTTPConnection(self.HOST)
            connection.auto_open = 0  # never by itself: that would be the real venue
            try:
                connection.sock = self._context.wrap_socket(raw, server_hostname=self.HOST)
            except OSError:
                raw.close()
                raise
            self._connection = connection
        return self._connection


class RawClient(WireClient):
    """Requests as they are on the wire, without any library between, for one account."""

    def __init__(self, venue: PaperVenue, alias: str = "ALPHA01") -> None:
        super().__init__(venue)
        self.alias = alias
        self.key = f"key-{alias}"
        self.secret = f"secret-{alias}"

    def signed(self, method: str, path: str, **params: Any) -> Reply:
        """A signed request. ``timestamp`` and ``recvWindow`` are set unless given."""
        params = {"recvWindow": 60_000, "timestamp": int(time.time() * 1000)} | params
        query = urlencode({k: v for k, v in params.items() if v is not None})
        signature = hmac.digest(self.secret.encode(), query.encode(), "sha256").hex()
        return self.send(method, path, f"{query}&signature={signature}")

    def send(self, method: str, path: str, query: str = "", *, key: str | None = "") -> Reply:
        """``query`` goes as it is, into the body of a POST or PUT, else into the path.

        ``key`` None sends no key at all.
        """
        headers = {} if key is None else {"X-MBX-APIKEY": key or self.key}
        body = None
        if method in {"POST", "PUT"}:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = query
        elif query:
            path = f"{path}?{query}"
        return self.exchange(method, path, body, headers)

    def order(
        self, side: str | None = "BUY", quantity: str | None = "0.01", **params: Any
    ) -> Reply:
        """A market order on BTCUSDT unless ``params`` say otherwise."""
        fields: Json = {"symbol": "BTCUSDT", "side": side, "type": "MARKET", "quantity": quantity}
        fields |= {"newOrderRespType": "RESULT"}
        return self.signed("POST", "/fapi/v1/order", **(fields | params))

    def limit(self, side: str, quantity: str, price: object, **params: Any) -> Reply:
        fields = {"type": "LIMIT", "timeInForce": "GTC", "price": price}
        return self.order(side, quantity, **(fields | params))

    def stop(
        self, side: str, trigger: object, quantity: str | None = "0.01", **params: Any
    ) -> Reply:
        """A reduce-only STOP_MARKET on BTCUSDT unless ``params`` say otherwise."""
        fields = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": side}
        fields |= {"type": "STOP_MARKET", "triggerPrice": str(trigger), "reduceOnly": "true"}
        if quantity is not None:
            fields["quantity"] = quantity
        return self.signed("POST", "/fapi/v1/algoOrder", **(fields | params))

    def position(self, symbol: str = "BTCUSDT") -> Decimal:
        """The net position, negative when short."""
        rows = self.signed("GET", "/fapi/v2/positionRisk", symbol=symbol).body
        return Decimal(rows[0]["positionAmt"])


class PaperVenue:
    """The venue's process. A context manager: started on entering, ended on leaving.

    The market is paused at start unless ``paused=False``, so that prices move only by
    ``admin.price()``; an account ALPHA01 with 10,000 USDT is open unless ``account=None``.
    """

    def __init__(
        self,
        directory: Path,
        *,
        account: str | None = "ALPHA01",
        balance: str = "10000",
        paused: bool = True,
        port: int = 0,
        options: tuple[str, ...] = (),
    ) -> None:
        """``directory`` holds state and ready file; ``options`` go to the command line.

        ``port`` 0 takes any.
        """
        self.directory = directory
        self.state = directory / "venue"
        self.ca_path = self.state / "tls" / "ca.pem"
        self.port = port
        self.admin_port = 0
        self._account = account
        self._balance = balance
        self._paused = paused
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # -- the process ------------------------------------------------------------------------------

    @property
    def admin(self) -> AdminClient:
        return AdminClient(self.admin_port)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        log = self.directory / "venue.log"
        command = [sys.executable, "-m", "watchkeeper.paper.command"]
        command += ["--listen", f"127.0.0.1:{self.port}"]
        command += ["--admin", f"127.0.0.1:{self.admin_port}"]
        command += ["--state", str(self.state), "--ready-file", str(ready), *self._options]
        if self._paused and not self.admin_port:  # a restart goes on as it was
            command.append("--paused")
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, env=_compiling_environment()
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the paper venue did not start:\n{log.read_text()}")
            time.sleep(0.01)
        answer = json.loads(ready.read_text())
        self.port = int(answer["listen"][0].rpartition(":")[2])
        self.admin_port = int(answer["admin"].rpartition(":")[2])
        if self._account is not None and self._account not in self.admin.accounts():
            self.admin.open_account(self._account, balance=self._balance)

    def stop(self) -> None:
        """End it in good order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """``kill -9``; :meth:`start` goes on from what was stored."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """``kill -9`` and start again on the same ports."""
        self.kill()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)

    def log(self) -> str:
        """What the process wrote: empty unless something went wrong."""
        return (self.directory / "venue.log").read_text()

    def events(self, kind: str | None = None, *, after: int = 0) -> list[Json]:
        return self.admin.events(after=after, kind=kind)

    # -- clients ----------------------------------------------------------------------------------

    def credentials(self, alias: str = "ALPHA01", venue: str = BINANCE) -> dict[str, str]:
        """Key and secret of an account opened by :meth:`AdminClient.open_account`."""
        return {"apiKey": f"key-{alias}", "secret": secret_of(alias, venue)}

    def session(self) -> aiohttp.ClientSession:
        """An aiohttp session to which every venue name is this venue. Close it yourself."""
        import aiohttp
        from aiohttp.abc import AbstractResolver, ResolveResult

        port = self.port

        class OnlyHere(AbstractResolver):
            async def resolve(
                self, host: str, port_wanted: int = 0, family: int = socket.AF_INET
            ) -> list[ResolveResult]:
                if not host.endswith(VENUE_DOMAINS):
                    raise OSError(f"a test wanted to reach {host}")
                return [
                    ResolveResult(
                        hostname=host,
                        host="127.0.0.1",
                        port=port,
                        family=socket.AF_INET,
                        proto=0,
                        flags=socket.AI_NUMERICHOST,
                    )
                ]

            async def close(self) -> None: ...

        context = ssl.create_default_context(cafile=str(self.ca_path))
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context, resolver=OnlyHere())
        )

    @contextlib.contextmanager
    def names_resolve_here(self) -> Iterator[None]:
        """Within the block, in this process, every venue name is this venue."""
        real = socket.getaddrinfo

        def here(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
            name = host.decode() if isinstance(host, bytes) else host
            if isinstance(name, str) and name.endswith(VENUE_DOMAINS):
                kwargs.pop("family", None)
                return real("127.0.0.1", self.port, socket.AF_INET, socket.SOCK_STREAM)
            return real(host, port, *args, **kwargs)

        with mock.patch.object(socket, "getaddrinfo", here):
            yield

    def environment(self) -> dict[str, str]:
        """Environment of another Python process to which every venue name is this venue."""
        paths = [str(_REDIRECT), os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PAPER_VENUE_ADDRESS": f"127.0.0.1:{self.port}",
        }


def _compiling_environment() -> dict[str, str]:
    """Byte code is kept outside the source tree: the venue then starts in half a second."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = str(
        Path(tempfile.gettempdir()) / f"watchkeeper-pycache-{os.getuid()}"
    )
    return environment

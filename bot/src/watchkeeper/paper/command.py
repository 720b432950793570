"""``watchkeeper paper``: start the paper venue."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import tomllib
from collections.abc import Coroutine, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from watchkeeper.paper import admin, certificates
from watchkeeper.paper.front import Front
from watchkeeper.paper.market import MarketError, read_bars
from watchkeeper.paper.protocol.kraken import rules as kraken_rules
from watchkeeper.paper.rules import list_more
from watchkeeper.paper.service import Venue
from watchkeeper.paper.store import StoreError

_DESCRIPTION = """\
Binance USD-M and Kraken Futures on this machine, for unmodified clients: TLS under the venues'
real host names with a private CA, orders and positions kept through kill -9, real market data
replayed, and faults on demand. No order ever reaches a real venue.
"""

_EPILOG = f"""\
example:
  watchkeeper paper --listen 127.0.0.1:8443 --admin 127.0.0.1:8444 --state /tmp/venue
  curl -s localhost:8444/accounts -d '{{"alias":"ALPHA01","api_key":"k","api_secret":"s"}}'
  curl -s localhost:8444/accounts/ALPHA01/state
  curl -s 'localhost:8444/events?limit=5'

A client trusts DIR/tls/ca.pem and resolves these names to the listening address:
  {" ".join(certificates.HOST_NAMES[:5])}
  {" ".join(certificates.HOST_NAMES[5:10])}
  {" ".join(certificates.HOST_NAMES[10:])}

exit codes: 0 stopped by SIGTERM or SIGINT, 2 an option is wrong, 74 the state cannot be written.
The admin API, with an example of each call, is in docs/paper-venue.md.
"""


# A request that a fault holds open is not waited for.
_SHUTDOWN_S = 0.2

# How often it is looked for faults that begin, countdowns that ran out, and the like.
_DUE_S = 0.05


class OptionError(Exception):
    """An option cannot be used; the text begins with its name."""


class Address(NamedTuple):
    host: str
    port: int


class _AccountsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    accounts: list[admin.NewAccount]


def address(text: str) -> Address:
    """``HOST:PORT``; an IPv6 host in brackets."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, e.g. 127.0.0.1:8443")
    return Address(host.strip("[]"), int(port))


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from error
    if not 0.01 <= number <= 100_000:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.01 and 100000")
    return number


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 0 or more")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    options = argparse.ArgumentParser(
        prog="watchkeeper paper",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument(
        "--listen",
        metavar="HOST:PORT",
        type=address,
        action="append",
        required=True,
        help="where the venue answers, over TLS; may be given several times; port 0 takes any",
    )
    options.add_argument(
        "--plain",
        metavar="HOST:PORT",
        type=address,
        action="append",
        default=[],
        help="the same without TLS, for clients that trust only the CAs they were built with",
    )
    options.add_argument(
        "--admin",
        metavar="HOST:PORT",
        type=address,
        required=True,
        help="where the admin API answers, plain HTTP without a password: loopback, or a network "
        "that only tests can reach",
    )
    options.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        required=True,
        help="where venue.db and tls/ live; made if missing, continued if not",
    )
    options.add_argument(
        "--accounts",
        metavar="FILE.toml",
        type=Path,
        help='accounts to open: [[accounts]] alias="ALPHA01" api_key="…" api_secret="…" '
        'balance="10000"; a known account keeps its balance and gets the keys',
    )
    prices = options.add_mutually_exclusive_group()
    prices.add_argument(
        "--bars",
        metavar="FILE.csv.gz",
        type=Path,
        help="one-minute bars that BTCUSDT replays, again and again without a jump at the seam: "
        "timestamp,open,high,low,close,volume (default: two real days that come with the package)",
    )
    prices.add_argument(
        "--walk",
        metavar="SEED",
        type=_count,
        help="no bars: BTCUSDT walks from this seed, as ETHUSDT and SOLUSDT always do",
    )
    options.add_argument(
        "--speed",
        metavar="N",
        type=_positive,
        default=60.0,
        help="market seconds per second (default: 60, a one-minute bar each second)",
    )
    options.add_argument(
        "--paused",
        action="store_true",
        help="let the market stand still until POST /market/resume; kept over a restart",
    )
    options.add_argument(
        "--seed",
        metavar="N",
        type=_count,
        default=1,
        help="the same seed gives the same prices in the same order (default: 1)",
    )
    options.add_argument(
        "--more-symbols",
        metavar="N",
        type=_count,
        default=0,
        help="list PAPER001USDT, PF_PAPER001USD and so on beside the three; the same number at "
        "each start of a state (default: 0)",
    )
    options.add_argument(
        "--latency-ms",
        metavar="N",
        type=_count,
        default=0,
        help="round trip added to every request, half of it to every stream (default: 0)",
    )
    options.add_argument(
        "--weight-limit",
        metavar="N",
        type=_count,
        default=0,
        help="refuse with 429 above this weight a minute, and tell in a header how much was used; "
        "the venue's is 2400 (default: 0, no limit)",
    )
    options.add_argument(
        "--cost-limit",
        action="store_true",
        help="refuse Kraken's requests above its budgets: 500 every ten seconds, 100 every ten "
        "minutes for history (default: nothing is refused)",
    )
    options.add_argument(
        "--private-delay-ms",
        metavar="N",
        type=_count,
        default=0,
        help="a private feed of Kraken's goes live so much later than it is confirmed (default: 0)",
    )
    options.add_argument(
        "--ready-file",
        metavar="FILE",
        type=Path,
        help="written once everything answers: JSON with pid, addresses and the CA's path",
    )
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    options = parser().parse_args(argv)
    try:
        accounts = _read_accounts(options.accounts)
        bars = None if options.walk is not None else read_bars(options.bars)
        seed = options.walk if options.walk is not None else options.seed
        files = _prepare_state(options.state)
        list_more(options.more_symbols)
        kraken_rules.list_more(options.more_symbols)
        venue = Venue(options.state, bars=bars, seed=seed, latency_ms=options.latency_ms)
    except MarketError as error:
        return _fail(f"--bars: {error}")
    except StoreError as error:
        return _fail(f"--state: {error}")
    except OptionError as error:
        return _fail(str(error))
    venue.speed = options.speed
    venue.private_delay_ms = options.private_delay_ms
    if options.paused:
        venue.pause(True)
    try:
        for account in accounts:
            admin.open_account(venue, account)
    except admin.AdminError as error:
        venue.close()
        return _fail(f"--accounts: {options.accounts}: {error}")
    try:
        return _run(_serve(options, venue, files))
    except OptionError as error:
        return _fail(str(error))
    finally:
        venue.close()


def _run(serving: Coroutine[Any, Any, int]) -> int:
    try:
        import uvloop  # noqa: PLC0415 -- comes with ccxt; a third more requests a second
    except ImportError:
        return asyncio.run(serving)
    return uvloop.run(serving)


def _fail(message: str) -> int:
    print(f"watchkeeper paper: {message}", file=sys.stderr)
    return 2


def _prepare_state(state: Path) -> certificates.Certificates:
    try:
        state.mkdir(parents=True, exist_ok=True)
        return certificates.ensure(state / "tls")
    except OSError as error:
        raise OptionError(f"--state: {error}") from error


def _read_accounts(path: Path | None) -> list[admin.NewAccount]:
    if path is None:
        return []
    try:
        with path.open("rb") as file:
            table = tomllib.load(file, parse_float=Decimal)
        return msgspec.convert(table, _AccountsFile, strict=False).accounts
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise OptionError(f"--accounts: {path}: {error}") from error


async def _serve(
    options: argparse.Namespace, venue: Venue, files: certificates.Certificates
) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    front = Front(venue, weight_limit=options.weight_limit, cost_limited=options.cost_limit)
    wire = _runner(web.Server(front.handle, access_log=None))
    plain = _runner(web.Server(front.handle, access_log=None))
    control = _runner(web.Server(admin.Admin(venue, front).handle, access_log=None))
    for runner in (wire, plain, control):
        await runner.setup()
    try:
        tls = certificates.server_context(files)
        for where in options.listen:
            await _listen("--listen", wire, where, tls)
        for where in options.plain:
            await _listen("--plain", plain, where, None)
        await _listen("--admin", control, options.admin, None)
        if options.ready_file is not None:
            _write_ready(options.ready_file, wire, plain, control, files)
        tasks = [
            asyncio.create_task(_move_market(venue)),
            asyncio.create_task(_each_second(front)),
            asyncio.create_task(_pass_time(venue)),
        ]
        ended = asyncio.create_task(stopping.wait())
        await asyncio.wait([*tasks, ended], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, ended):
            task.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
    finally:
        await front.close()
        for runner in (wire, plain, control):
            await runner.cleanup()
    return 0


def _runner(server: web.Server) -> web.ServerRunner:
    return web.ServerRunner(server, shutdown_timeout=_SHUTDOWN_S)


async def _listen(
    option: str, runner: web.ServerRunner, where: Address, tls: ssl.SSLContext | None
) -> None:
    site = web.TCPSite(
        runner,
        where.host,
        where.port,
        ssl_context=tls,
        reuse_address=True,
        backlog=1024,
    )
    try:
        await site.start()
    except (OSError, socket.gaierror) as error:
        raise OptionError(
            f"{option} {where.host}:{where.port}: {error.strerror or error}"
        ) from error


def _write_ready(
    path: Path,
    wire: web.ServerRunner,
    plain: web.ServerRunner,
    control: web.ServerRunner,
    files: certificates.Certificates,
) -> None:
    body = {
        "pid": os.getpid(),
        "listen": [f"{host}:{port}" for host, port, *_ in wire.addresses],
        "plain": [f"{host}:{port}" for host, port, *_ in plain.addresses],
        "admin": "{}:{}".format(*control.addresses[0][:2]),
        "ca": str(files.ca.resolve()),
    }
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.write_text(json.dumps(body) + "\n")
        fresh.rename(path)
    except OSError as error:
        raise OptionError(f"--ready-file: {error}") from error


async def _move_market(venue: Venue) -> None:
    """Tick at the market's own pace; a late tick is not made up for."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        if not venue.paused:
            venue.step()
        due = max(due + venue.tick_interval_s, loop.time())
        # Looks up again each second, so that a change of speed is felt at once.
        while (wait := due - loop.time()) > 0:
            await asyncio.sleep(min(wait, 1.0))
            due = min(due, loop.time() + venue.tick_interval_s)
        await asyncio.sleep(0)


async def _pass_time(venue: Venue) -> None:
    while True:
        await asyncio.sleep(_DUE_S)
        venue.pass_time()


async def _each_second(front: Front) -> None:
    second = 0
    while True:
        await asyncio.sleep(1.0)
        second += 1
        front.each_second(second)


if __name__ == "__main__":
    sys.exit(main())

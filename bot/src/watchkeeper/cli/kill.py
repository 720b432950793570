"""``watchkeeper kill``."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial

import msgspec

from watchkeeper.cli.common import OK, WARNING, fail, named_or_all
from watchkeeper.execution.flatten import Stand
from watchkeeper.execution.switch import HALTED, KillSwitch, Receipt, read_receipt, write_receipt
from watchkeeper.paths import Paths
from watchkeeper.programs.logs import log_to_stderr
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.latch import LatchError, halt, read


def main(
    bot: str | None,
    *,
    everyone: bool,
    halt_only: bool,
    detach: bool,
    as_json: bool,
    reason: str,
    by: str,
) -> int:
    """Halt, and unless told otherwise flatten, one bot or all of them."""
    began = time.monotonic()

    def tell(name: str, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal may be gone; the positions are not
            print(f"{time.monotonic() - began:7.2f} s  {name}  {text}", file=sys.stderr, flush=True)

    log_to_stderr()
    chosen = named_or_all(bot, everyone=everyone)
    ours = [paths for paths in chosen if not _foreign(paths)]
    # The latches of all bots, before anything that takes time.
    problems = {paths.bot: _latch(paths, reason, by, flatten=not halt_only) for paths in ours}
    for name, problem in problems.items():
        tell(name, f"NOT halted: {problem}" if problem else "halted")
    if any("Permission denied" in problem for problem in problems.values()):
        fail(
            "this user may not halt; sudo watchkeeper kill ... or, as a member of wk-ops, "
            f"systemctl start {' '.join(f'kill@{name}' for name in problems)}"
        )
    if halt_only:
        receipts = [_halted(paths, problems[paths.bot]) for paths in ours]
    elif detach:
        receipts = [_handed_over(paths, problems[paths.bot]) for paths in ours]
        units = [f"kill@{paths.bot}.service" for paths in ours]
        # Nothing of ours waits for it: systemd does.
        command = ["/usr/bin/env", "systemctl", "start", "--no-block", *units]
        if units and subprocess.run(command, check=False).returncode:
            fail(f"halted, but systemctl could not start {' '.join(units)}: leave --detach out")
    else:
        switches = [
            KillSwitch(paths, problems[paths.bot], partial(tell, paths.bot)) for paths in ours
        ]
        asyncio.run(_pull(switches))
        receipts = [switch.receipt() for switch in switches]
    receipts += [_not_ours(paths) for paths in chosen if _foreign(paths)]
    _show(receipts, as_json=as_json)
    done = detach or all(receipt.done for receipt in receipts)
    return OK if done and not any(problems.values()) else WARNING


def show_receipts(bot: str | None, *, everyone: bool, as_json: bool) -> int:
    """What the last pull has come to, as it stands now."""
    chosen = named_or_all(bot, everyone=everyone)
    receipts = [_not_ours(paths) if _foreign(paths) else _standing(paths) for paths in chosen]
    _show(receipts, as_json=as_json)
    return OK if all(receipt.done for receipt in receipts) else WARNING


def _show(receipts: Sequence[Receipt], *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(receipts).decode())
    else:
        print("\n".join(line for receipt in receipts for line in _lines(receipt)))


def _standing(paths: Paths) -> Receipt:
    """The last receipt, while its latch holds: whoever was released may have traded since."""
    receipt = read_receipt(paths)
    if receipt.done and read(paths) is None:
        released = (
            f"the latch was released since; pull it again: watchkeeper kill --bot {paths.bot}"
        )
        return Receipt(bot=paths.bot, stand=Stand.UNKNOWN, remaining=(released,))
    return receipt


def _foreign(paths: Paths) -> bool:
    return not paths.config.exists() and (paths.etc / "foreign.toml").exists()


def _latch(paths: Paths, reason: str, by: str, *, flatten: bool) -> str:
    """Set it; why that failed, or ``""``."""
    try:
        halt(paths, reason, by, flatten=flatten)
    except LatchError as error:
        return str(error)
    return ""


def _halted(paths: Paths, problem: str) -> Receipt:
    receipt = Receipt(
        bot=paths.bot,
        stand=HALTED,
        at_ms=now_ms(),
        latched=not problem,
        remaining=(f"not halted: {problem}",) if problem else (),
    )
    write_receipt(paths, receipt)
    return receipt


def _handed_over(paths: Paths, problem: str) -> Receipt:
    receipt = Receipt(
        bot=paths.bot,
        stand=Stand.UNKNOWN,
        at_ms=now_ms(),
        latched=not problem,
        remaining=(
            f"kill@{paths.bot}.service goes on: watchkeeper kill --receipt --bot {paths.bot}",
        ),
    )
    write_receipt(paths, receipt)
    return receipt


def _not_ours(paths: Paths) -> Receipt:
    stop = f"systemctl stop 'supervisord@{paths.bot}-*'"
    return Receipt(
        bot=paths.bot,
        stand=Stand.UNKNOWN,
        at_ms=now_ms(),
        remaining=(f"a foreign program: end it ({stop}), then flatten its account at the venue",),
    )


async def _pull(switches: Sequence[KillSwitch]) -> None:
    """All at once, until each is done or somebody says stop."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a connection that breaks asks for nothing
    stop = asyncio.create_task(stopping.wait())
    tasks = [asyncio.create_task(switch.run()) for switch in switches]
    work = asyncio.create_task(_all(tasks))
    await asyncio.wait({stop, work}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stop, work, *tasks):
        task.cancel()
    await asyncio.gather(stop, work, *tasks, return_exceptions=True)


async def _all(tasks: Sequence[asyncio.Task[Receipt]]) -> None:
    await asyncio.gather(*tasks)


def _lines(receipt: Receipt) -> list[str]:
    head = f"{receipt.bot}  {receipt.venue} {receipt.account}".rstrip()
    lines = []
    if receipt.flat_s is not None and receipt.stand in (Stand.FLAT, Stand.PROVEN):
        lines.append(
            f"{head}  flat after {receipt.flat_s:.2f} s: {len(receipt.closed)} positions closed, "
            f"{receipt.orders_cancelled} orders and {receipt.stops_cancelled} stops cancelled"
        )
    if receipt.proven_s is not None:
        lines.append(
            f"{head}  proven flat after {receipt.proven_s:.2f} s: read again one receive window "
            "after the last possible send"
        )
    lines = lines or [f"{head}  {receipt.stand}"]
    lines += [f"{receipt.bot}  dust, which nobody can close: {what}" for what in receipt.dust]
    return lines + [f"{receipt.bot}  REMAINS  {what}" for what in receipt.remaining]

"""Notifier: alerts from the bus into the log and to the people's channels.

Every channel has its own place on the bus, so that one which fails keeps its alerts there and
delays no other. Nobody waits for this program.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time

import msgspec

from watchkeeper.bus.protocol import ALERTS, BusError, Message
from watchkeeper.bus.sqlite import SqliteBus, open_bus
from watchkeeper.config import NOTIFY_URLS
from watchkeeper.programs.context import Context
from watchkeeper.watch.alerts import Alert, AlertId
from watchkeeper.watch.channels import Channel, open_channels, separate
from watchkeeper.watch.clock import now_ms
from watchkeeper.watch.delivery import OUTDATED_MS, Told, compose
from watchkeeper.watch.heartbeat import Heartbeat, State

POLL_S = 0.2
PRUNE_S = 3600.0
RETRY_FIRST_S = 1.0
RETRY_CAP_S = 60.0
DAMAGE_TOLD_S = 24 * 3600  # also by a notifier that was away when it was found
UNDELIVERED_AFTER_S = 60.0  # of the alert catalogue


async def main(context: Context) -> None:
    """Run until told to stop.

    Raises:
        ConfigError: ``WATCHKEEPER_NOTIFY_URLS`` holds what is no channel.
    """
    paths = context.paths
    secrets = context.secrets(paths.env) if paths.env.exists() else {}
    urls = secrets.get(NOTIFY_URLS, "")
    context.log_file.hide(separate(urls))  # each by itself, too: whoever quotes one quotes no list
    channels = open_channels(urls)
    bus = await _open(context)
    if bus is None:
        return
    troubles = _Troubles(context.heartbeat)
    try:
        await context.until_stopped(
            _log(context, bus, troubles),
            _prune(context, bus),
            *(_deliver(context, bus, channel, troubles) for channel in channels),
        )
    finally:
        bus.close()


async def _open(context: Context) -> SqliteBus | None:
    """The bus, as soon as it can be opened; None when stopped before."""
    while True:
        try:
            return open_bus(context.paths.bus, janitor=True)
        except BusError as error:
            context.heartbeat.update(State.DEGRADED, error=str(error))
            if await context.pause(1.0):
                return None


class _Troubles:
    """What is wrong now, in the heartbeat's words."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._texts: dict[str, str] = {}

    def set(self, where: str, text: str) -> None:
        """``text`` empty: nothing is wrong there any more."""
        if text:
            self._texts[where] = text
        else:
            self._texts.pop(where, None)
        self._heartbeat.update(
            State.DEGRADED if self._texts else State.READY, error="; ".join(self._texts.values())
        )


async def _log(context: Context, bus: SqliteBus, troubles: _Troubles) -> None:
    """Every alert is a line in this program's log, whether or not there is a channel."""
    count = opened = 0
    while True:
        try:
            if bus.opened > opened:
                opened = bus.opened
                _tell_damage(context)
            for message in bus.receive(ALERTS, "notifier"):
                alert = _decode(context, message)
                if alert is not None:
                    count += 1
                    context.log.warning("alert", **msgspec.to_builtins(alert))
                bus.acknowledge(ALERTS, "notifier", message.sequence)
            troubles.set("bus", "")
            context.heartbeat.progress["alerts"] = count
        except BusError as error:
            context.log.error("bus_unavailable", error=str(error))
            troubles.set("bus", str(error))
            await asyncio.sleep(1)
        await asyncio.sleep(POLL_S)


async def _deliver(context: Context, bus: SqliteBus, channel: Channel, troubles: _Troubles) -> None:
    """Everything on the bus to one channel, in order, for ever."""
    host = socket.gethostname()
    told = Told()
    waiting: dict[str, int] = context.heartbeat.progress.setdefault("undelivered", {})
    failing_since: float | None = None
    paged = False
    wait_s = RETRY_FIRST_S
    while True:
        try:
            messages = bus.receive(ALERTS, channel.name)
        except BusError:
            await asyncio.sleep(1)
            continue
        waiting[channel.name] = len(messages)
        alerts = told.news(_for_channel(context, messages, channel))
        if not alerts or await asyncio.to_thread(channel.send, compose(alerts, host)):
            told.note(alerts)
            if alerts:
                context.log.info("delivered", channel=channel.name, alerts=len(alerts))
            if messages:
                try:
                    bus.acknowledge(ALERTS, channel.name, messages[-1].sequence)
                except BusError as error:  # told twice is better than never
                    context.log.error("bus_unavailable", error=str(error))
            troubles.set(channel.name, "")
            failing_since, paged, wait_s = None, False, RETRY_FIRST_S
            await asyncio.sleep(POLL_S)
            continue
        failing_since = failing_since or time.monotonic()
        context.log.error("undelivered", channel=channel.name, alerts=len(alerts))
        troubles.set(channel.name, f"{channel.name} takes no alerts")
        if not paged and time.monotonic() - failing_since >= UNDELIVERED_AFTER_S:
            paged = True
            context.alert(
                AlertId.ALERT_UNDELIVERED,
                f"{channel.name} has taken no alert for {UNDELIVERED_AFTER_S:.0f} s",
                channel=channel.name,
            )
        await asyncio.sleep(random.uniform(wait_s / 2, wait_s))  # noqa: S311
        wait_s = min(RETRY_CAP_S, wait_s * 2)


def _for_channel(context: Context, messages: list[Message], channel: Channel) -> list[Alert]:
    """The alerts of ``messages`` that still matter; not those about the channel itself."""
    alerts = (_decode(context, message) for message in messages)
    return [
        alert
        for alert in alerts
        if alert is not None
        and now_ms() - alert.raised_ms <= OUTDATED_MS
        and alert.fields.get("channel") != channel.name
    ]


def _decode(context: Context, message: Message) -> Alert | None:
    try:
        return msgspec.json.decode(message.payload, type=Alert)
    except msgspec.MsgspecError as error:
        context.log.error("alert_unreadable", id=message.message_id, error=str(error))
        return None


def _tell_damage(context: Context) -> None:
    """That a bus was set aside lately: what waited in it was not delivered."""
    path = context.paths.bus
    for aside in sorted(path.parent.glob(f"{path.name}.damaged-*Z*")):
        lately = time.time() - aside.stat().st_ctime < DAMAGE_TOLD_S
        if lately and not aside.name.endswith(("-wal", "-shm")):
            context.alert(
                AlertId.ALERT_UNDELIVERED,
                f"the bus was damaged and set aside as {aside.name}: alerts, intents and commands "
                "that waited in it are lost",
                channel="bus",
            )


async def _prune(context: Context, bus: SqliteBus) -> None:
    while True:
        try:
            count = bus.prune()
        except BusError as error:
            context.log.error("bus_unavailable", error=str(error))
        else:
            if count:
                context.log.info("bus_pruned", messages=count)
        await asyncio.sleep(PRUNE_S)

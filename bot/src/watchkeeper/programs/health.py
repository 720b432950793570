"""Health: the bot's state over HTTP on loopback, out of heartbeats and files.

``/livez`` this program answers; ``/readyz`` the executor has reconciled; ``/healthz`` every
program is up and able to work; ``/status`` everything, as ``watchkeeper status --json`` shows it.
"""

from __future__ import annotations

import asyncio
import json

import msgspec
from aiohttp import web

from watchkeeper.programs.context import Context
from watchkeeper.watch.heartbeat import State
from watchkeeper.watch.overview import Overview, look

LOOK_EVERY_S = 0.5  # how long an answer may be repeated
RETRY_S = 5.0


async def main(context: Context) -> None:
    """Run until told to stop."""
    runner = web.AppRunner(build(context), access_log=None, handle_signals=False)
    await runner.setup()
    try:
        if await _listen(context, runner):
            context.heartbeat.update(State.READY, error="")
            await context.stopping.wait()
    finally:
        await runner.cleanup()


async def _listen(context: Context, runner: web.AppRunner) -> bool:
    """Take the address as soon as it is free. False: told to stop before that."""
    settings = context.config.health
    while True:
        try:
            await web.TCPSite(runner, settings.listen, settings.port).start()
        except OSError as error:
            text = f"health.port: {settings.listen}:{settings.port}: {error.strerror}"
            context.log.error("cannot_listen", error=text)
            context.heartbeat.update(State.DEGRADED, error=text)
            if await context.pause(RETRY_S):
                return False
        else:
            return True


def build(context: Context) -> web.Application:
    """The application, for the program and for tests."""
    looking = _Looking(context)

    async def livez(_: web.Request) -> web.Response:
        return _answer({"status": "alive"}, ok=True)

    async def readyz(_: web.Request) -> web.Response:
        seen = await looking.overview()
        executor = seen.executor
        state = executor.state if executor is not None else "LOST"
        ready = state == State.READY.value
        reason = "" if ready or executor is None else executor.error
        return _answer({"ready": ready, "executor": state, "reason": reason}, ok=ready)

    async def healthz(_: web.Request) -> web.Response:
        seen = await looking.overview()
        ill = {p.name: f"{p.state} {p.error}".strip() for p in seen.programs if not p.well}
        return _answer(
            {"status": "ok" if not ill else "ill", "halted": seen.halted, "ill": ill}, ok=not ill
        )

    async def status(_: web.Request) -> web.Response:
        body = msgspec.json.encode(await looking.overview())
        return web.Response(body=body, content_type="application/json")

    application = web.Application()
    for path, handler in (
        ("/livez", livez),
        ("/readyz", readyz),
        ("/healthz", healthz),
        ("/status", status),
    ):
        application.router.add_get(path, handler)
    return application


class _Looking:
    """One look at a time, shared by all who ask within :data:`LOOK_EVERY_S`."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._lock = asyncio.Lock()
        self._seen: Overview | None = None
        self._at = 0.0

    async def overview(self) -> Overview:
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._seen is None or now - self._at > LOOK_EVERY_S:
                # Off the loop: a hanging disk or supervisord must not stop this heartbeat.
                self._seen = await asyncio.to_thread(look, self._context.paths, with_units=False)
                self._at = asyncio.get_running_loop().time()
            return self._seen


def _answer(body: dict[str, object], *, ok: bool) -> web.Response:
    return web.Response(
        text=json.dumps(body), status=200 if ok else 503, content_type="application/json"
    )

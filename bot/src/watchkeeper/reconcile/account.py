"""Rows about the account and its surroundings (A1 to A9, P12, P19, O23's latch, lasting blocks)."""

from __future__ import annotations

from watchkeeper.reconcile.draft import Draft
from watchkeeper.reconcile.model import Halt
from watchkeeper.venue.protocol import HEDGE_MODE, Cause, Missing, Snapshot

_PARTS = ("balances", "positions", "orders", "stops", "fills")

# How long a key is refused before the bot is halted, venue time. Only a person ends that, and one
# refused answer among good ones is the venue's trouble.
KEY_FOR_MS = 10_000


def account(draft: Draft) -> None:
    """What holds entries back whatever the orders and positions are."""
    snapshot = draft.snapshot
    if isinstance(snapshot.balances, Missing):
        draft.block("A1", f"balance cannot be read: {snapshot.balances.reason}")
    for name in ("positions", "orders", "stops"):
        part = getattr(snapshot, name)
        if isinstance(part, Missing):
            draft.block("P6", f"{name} cannot be read: {part.reason}")
    _unanswered(draft)
    _clock(draft)
    if snapshot.hedged:
        draft.block("P12", HEDGE_MODE)
    if draft.belief.protect_only:
        draft.block("A9", f"{draft.belief.protect_only}: positions are only protected")
    if draft.belief.halted:
        draft.block("O23", f"halted: {draft.belief.halted}")
    for known in draft.belief.standing:
        if known.row == "P15":  # until a person takes it away
            draft.since("P15", known.symbol, known.why)
            draft.block("P15", known.why, known.symbol)


def _unanswered(draft: Draft) -> None:
    """Why parts are missing, where something follows from it."""
    parts = _missing(draft.snapshot)
    by_cause = {part.cause: part.reason for part in parts}
    venue = draft.policy.venue
    if (reason := by_cause.get(Cause.MAINTENANCE)) is not None:
        draft.block("A2", f"{venue} is in maintenance: {reason}")
        draft.alert("A2", "venue-maintenance", venue, reason)
    if (reason := by_cause.get(Cause.BANNED)) is not None:
        draft.block("A3", f"{venue} demands silence, only protective calls go out: {reason}")
        draft.alert("A3", "venue-banned", venue, reason)
    if (reason := by_cause.get(Cause.KEY)) is not None:
        why = f"the key is refused: {reason}"
        draft.block("A5", why)
        draft.alert("A5", "venue-key-problem", venue, reason)
        since_ms = draft.since("A5", "", why)
        if not draft.belief.halted and draft.now_ms - since_ms >= KEY_FOR_MS:
            draft.do(Halt(row="A5", why=why))
    if all(isinstance(getattr(draft.snapshot, name), Missing) for name in _PARTS):
        draft.block("P19", f"{venue} is away: bots that do not use it go on")


def _missing(snapshot: Snapshot) -> list[Missing]:
    parts = [getattr(snapshot, name) for name in _PARTS]
    return [part for part in (*parts, *snapshot.lookups.values()) if isinstance(part, Missing)]


def _clock(draft: Draft) -> None:
    offset_ms, limit_ms = draft.snapshot.clock_offset_ms, draft.policy.max_clock_offset_ms
    if abs(offset_ms) > limit_ms:
        # Without the figure, which every pass measures anew: the heartbeat has it.
        draft.block("A4", f"the clock is off the venue's by more than {limit_ms} ms")
    for part in _missing(draft.snapshot):
        if part.cause is Cause.CLOCK:
            draft.block("A4", f"outside the venue's receive window: {part.reason}")
            return


def listings(draft: Draft) -> None:
    """Symbols that the venue lists no more (A6): kept, guarded, and nothing is opened in them."""
    snapshot = draft.snapshot
    held = () if isinstance(snapshot.positions, Missing) else snapshot.positions
    symbols = {p.symbol for p in held} | set(draft.belief.positions)
    for symbol in sorted(symbols - set(draft.policy.rules)):
        draft.alarm("A6", "position-external", symbol, "the venue lists it no more")

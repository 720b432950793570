"""The lease: what says, before each order, that this process may still send it."""

from __future__ import annotations

from collections.abc import Callable

from watchkeeper.lease.host_lock import HostLock, LockLost
from watchkeeper.lease.pause import LeaseLost, PauseWatch


class Lease:
    """One executor's lease of its account. Once lost it stays lost: there is always another one.

    Args:
        lock: held by this process.
        pauses: tells whether this process was away.
        newest_epoch: the highest epoch in the journal, whoever took it.
    """

    def __init__(
        self, lock: HostLock, pauses: PauseWatch, newest_epoch: Callable[[], int] = lambda: 0
    ) -> None:
        self.epoch = 0
        self._lock = lock
        self._pauses = pauses
        self._newest_epoch = newest_epoch
        self._seen = 0
        self._lost: LeaseLost | None = None

    def take(self, epoch: int) -> None:
        """From now on orders carry ``epoch``; a higher one is somebody else's."""
        self.epoch = epoch

    def see(self, epoch: int) -> None:
        """An order of the account carries ``epoch``."""
        self._seen = max(self._seen, epoch)

    @property
    def highest_seen(self) -> int:
        """Of what :meth:`see` was told; 0 if nothing."""
        return self._seen

    def check(self) -> None:
        """Before anything is sent, *after* the request's timestamp was taken: a process that is
        paused right behind this line sends an order that is too old for the venue.

        Raises:
            LockLost: the lock is not held, or somebody took a higher epoch (A10).
            Paused: see :class:`~watchkeeper.lease.pause.PauseWatch` (A11).
        """
        self._judge(self._pauses.check)

    def renew(self) -> None:
        """As :meth:`check`; several times a second, or it is taken for a pause.

        Raises:
            LockLost, Paused: see there.
        """
        self._judge(self._pauses.renew)

    def _judge(self, look: Callable[[], None]) -> None:
        if self._lost is None:
            try:
                self._lock.check()
                newest = max(self._seen, self._newest_epoch())
                if self.epoch and newest > self.epoch:
                    raise LockLost(f"somebody has taken epoch {newest}, this one is {self.epoch}")
                look()
            except LeaseLost as error:
                self._lost = error
        if self._lost is not None:
            raise self._lost

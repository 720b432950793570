"""The paper venue where an unmodified client looks for it: port 443 of the venue's own names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bot.tests.support.paper_venue import PaperVenue
from peers import sealed

HTTPS, HTTP = 443, 80


@contextmanager
def sealed_venue(directory: Path, *, latency_ms: int = 0) -> Iterator[PaperVenue]:
    """A venue with the account ALPHA01 whose prices move only by ``admin.price()``.

    The market is not paused: peers want candles that go on.

    Raises:
        CannotSeal: this process is not sealed, so the names are the real venue's here.
    """
    if not sealed.is_sealed():
        raise sealed.CannotSeal("the venue's names are not ours here: run it by `make test-peers`")
    plain = f"{sealed.ADDRESS}:{HTTP}"
    options = ("--speed", "0.01", "--latency-ms", str(latency_ms), "--plain", plain)
    with PaperVenue(directory, paused=False, port=HTTPS, options=options) as venue:
        yield venue

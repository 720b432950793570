"""The services that alerts go to: the URLs of ``WATCHKEEPER_NOTIFY_URLS``, understood by Apprise.

Each of these URLs is a secret, whole or in part. Nothing of one is ever shown before Apprise has
taken it, and then its scheme alone.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from watchkeeper.config import NOTIFY_URLS, several
from watchkeeper.watch.alerts import Severity
from watchkeeper.watch.delivery import Letter


class Channel:
    """One of the services.

    Raises:
        ValueError: Apprise does not understand the URL.
    """

    def __init__(self, url: str) -> None:
        from apprise import Apprise  # noqa: PLC0415 - heavy, and only some bots notify

        # It quotes the URLs it does not understand.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        self._apprise: Any = Apprise()
        if not self._apprise.add(url):
            raise ValueError("not understood")
        # Now it is known to be the name of a service, and not the beginning of a password.
        scheme = url.partition(":")[0].lower()
        self.name = f"{scheme}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"

    def send(self, letter: Letter) -> bool:
        """Deliver; blocks for as long as the service takes. False: it did not take it."""
        kind = {Severity.PAGE: "failure", Severity.WARN: "warning", Severity.INFO: "info"}
        return bool(
            self._apprise.notify(
                title=letter.title, body=letter.body, notify_type=kind[letter.severity]
            )
        )


def separate(urls: str) -> list[str]:
    """The URLs, each once; white space or commas stand between them."""
    return list(dict.fromkeys(urls.replace(",", " ").split()))


def open_channels(urls: str) -> list[Channel]:
    """A channel for each of the URLs.

    Raises:
        ConfigError: some are not understood; the message tells their places, never their text.
    """
    channels, wrong = [], []
    for number, url in enumerate(separate(urls), 1):
        try:
            channels.append(Channel(url))
        except ValueError:
            wrong.append(
                f"entry {number} is no URL of a service that Apprise knows, or not whole (it is a "
                "secret, so it is not shown). Each begins with a service's name, as in slack:// or "
                "mailto://, and a comma inside of one is written %2C; Apprise's list of services "
                "tells the rest"
            )
    if wrong:
        raise several(NOTIFY_URLS, wrong)
    return channels

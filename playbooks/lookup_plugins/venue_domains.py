"""``query('venue_domains')``: the domains of every venue that a bot may trade on, as the bot itself
has them."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase

from watchkeeper.paper.certificates import HOST_NAMES


class LookupModule(LookupBase):  # type: ignore[misc]  # Ansible has no types
    """The plug-in's name for Ansible."""

    def run(self, terms: list[Any], variables: Any = None, **_: Any) -> list[str]:
        return sorted({".".join(name.split(".")[-2:]) for name in HOST_NAMES})

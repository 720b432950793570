"""Request parameters as the venue reads them: from the query or a form, all of them text."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qsl

import msgspec

from watchkeeper.paper.protocol.kraken import errors
from watchkeeper.paper.protocol.kraken.rules import KRAKEN_RULES
from watchkeeper.paper.rules import Rules


class Params:
    """Names and values; some names come several times."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs
        self.all = dict(pairs)

    @classmethod
    def of(cls, query: str, body: str) -> Params:
        """The body of a batch may be JSON that nobody encoded: it is taken as it is."""
        pairs = parse_qsl(query, keep_blank_values=True)
        if body.startswith("json={"):
            pairs.append(("json", body[len("json=") :]))
        else:
            pairs += parse_qsl(body, keep_blank_values=True)
        return cls(pairs)

    @classmethod
    def of_json(cls, values: Mapping[str, object]) -> Params:
        """An element of a batch, where numbers and booleans are JSON's own."""
        text = {
            name: value if isinstance(value, str) else msgspec.json.encode(value).decode()
            for name, value in values.items()
            if value is not None
        }
        return cls(list(text.items()))

    def get(self, name: str) -> str | None:
        return self.all.get(name) or None

    def text(self, name: str) -> str:
        """A mandatory one.

        Raises:
            ApiError: requiredArgumentMissing.
        """
        value = self.get(name)
        if value is None:
            raise errors.missing(name)
        return value

    def texts(self, name: str) -> list[str]:
        """All values of a name, whether repeated or with commas between."""
        found = [value for key, value in self._pairs if key in {name, f"{name}[]"}]
        return [part for value in found for part in value.split(",") if part]

    def decimal(self, name: str, default: Decimal | None = None) -> Decimal:
        """A number; mandatory without a default.

        Raises:
            ApiError: requiredArgumentMissing, or invalidArgument.
        """
        value = self.get(name)
        if value is None:
            if default is None:
                raise errors.missing(name)
            return default
        try:
            number = Decimal(value)
        except InvalidOperation as error:
            raise errors.invalid(name) from error
        if not number.is_finite():
            raise errors.invalid(name)
        return number

    def integer(self, name: str, default: int | None = None) -> int | None:
        value = self.get(name)
        if value is None:
            return default
        try:
            return int(value)
        except ValueError as error:
            raise errors.invalid(name) from error

    def flag(self, name: str) -> bool:
        value = (self.get(name) or "false").lower()
        if value not in {"true", "false"}:
            raise errors.invalid(name)
        return value == "true"

    def rules(self, name: str = "symbol") -> Rules:
        """The contract that is named; small letters will do.

        Raises:
            ApiError: requiredArgumentMissing, or contractNotFound.
        """
        rules = KRAKEN_RULES.get(self.text(name).upper())
        if rules is None:
            raise errors.CONTRACT_NOT_FOUND
        return rules

"""Requests to the paper venue's Kraken side as they are on the wire, for one account."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from bot.tests.support.paper_venue import KRAKEN, Json, PaperVenue, Reply, WireClient, secret_of

from watchkeeper.paper.protocol.kraken.server import authent

V3 = "/derivatives/api/v3"
SYMBOL = "PF_XBTUSD"


class KrakenClient(WireClient):
    """Signed requests, and shorthands for the usual ones."""

    HOST = "futures.kraken.com"

    def __init__(self, venue: PaperVenue, alias: str) -> None:
        super().__init__(venue)
        self.alias = alias
        self.key = f"key-{alias}"
        self.secret = secret_of(alias, KRAKEN)

    def ask(
        self,
        method: str,
        path: str,
        *,
        nonce: str | None = None,
        headers: dict[str, str] | None = None,
        **params: Any,
    ) -> Reply:
        """A signed request: parameters in the body of a POST, else in the query."""
        path = path if path.startswith("/") else f"{V3}/{path}"
        data = urlencode({k: v for k, v in params.items() if v is not None}, doseq=True)
        signed = {"APIKey": self.key, "Authent": authent(self.secret, data, nonce or "", path)}
        if nonce is not None:
            signed["Nonce"] = nonce
        return self.raw(method, path, data, {**signed, **(headers or {})})

    def raw(self, method: str, path: str, data: str, headers: dict[str, str]) -> Reply:
        """``data`` as it is, with these headers."""
        body = None
        if method == "POST":
            headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
            body = data
        elif data:
            path = f"{path}?{data}"
        return self.exchange(method, path, body, headers)

    def get(self, name: str, **params: Any) -> Json:
        """What an endpoint answers."""
        body: Json = self.ask("GET", name, **params).body
        return body

    def post(self, name: str, **params: Any) -> Json:
        body: Json = self.ask("POST", name, **params).body
        return body

    def place(self, kind: str = "mkt", side: str | None = "buy", **params: Any) -> Json:
        """``sendStatus`` of an order: 0.01 PF_XBTUSD unless ``params`` say otherwise."""
        fields: Json = {"orderType": kind, "side": side, "symbol": SYMBOL, "size": "0.01"}
        answer = self.post("sendorder", **(fields | params))
        status: Json = answer.get("sendStatus", answer)
        return status

    def stop(self, price: object, side: str = "sell", **params: Any) -> Json:
        """``sendStatus`` of a reduce-only stop."""
        return self.place("stp", side, stopPrice=price, **({"reduceOnly": "true"} | params))

    def open_orders(self) -> list[Json]:
        return list(self.get("openorders")["openOrders"])

    def held(self) -> Decimal:
        """The net position in PF_XBTUSD, negative when short."""
        for row in self.get("openpositions")["openPositions"]:
            if row["symbol"] == SYMBOL:
                size = Decimal(str(row["size"]))
                return size if row["side"] == "long" else -size
        return Decimal(0)

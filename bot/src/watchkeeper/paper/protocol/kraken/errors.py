"""How the venue says no: an ``error`` for a request it does not take, a ``status`` for an order.

Sources: docs.kraken.com, futures, pages *Send order* (``sendStatus``), *Edit order*, *Cancel
order*; the error names are those of the venue's *HTTP API errors* as ccxt lists them.
"""

from __future__ import annotations

from watchkeeper.paper.model import Reason, Refused


class ApiError(Exception):
    """An answer ``{"result": "error", "error": name}``."""

    def __init__(self, name: str, status: int = 200) -> None:
        super().__init__(name)
        self.name = name
        self.status = status


class BadRequest(Exception):
    """An answer ``{"result": "error", "status": "BAD_REQUEST", "errors": [{code, message}]}``."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


# What the matching engine rejected appears as an order event with its reason; what was not even
# taken up has no event.
REJECTED = {
    "postWouldExecute": "POST_WOULD_EXECUTE",
    "iocWouldNotExecute": "IOC_WOULD_NOT_EXECUTE",
    "wouldNotReducePosition": "WOULD_NOT_REDUCE_POSITION",
}

_STATUSES: dict[Reason, str] = {
    Reason.PRECISION: "invalidPrice",
    Reason.TICK_SIZE: "invalidPrice",
    Reason.PRICE_TOO_LOW: "invalidPrice",
    Reason.PRICE_TOO_HIGH: "invalidPrice",
    Reason.STOP_PRICE_NOT_POSITIVE: "invalidPrice",
    Reason.PRICE_ABOVE_BAND: "outsidePriceCollar",
    Reason.PRICE_BELOW_BAND: "outsidePriceCollar",
    Reason.STEP_SIZE: "invalidSize",
    Reason.QUANTITY_TOO_SMALL: "invalidSize",
    Reason.QUANTITY_TOO_LARGE: "invalidSize",
    Reason.QUANTITY_NOT_POSITIVE: "invalidSize",
    Reason.NOTIONAL_TOO_SMALL: "tooManySmallOrders",
    Reason.AMEND_NOTIONAL: "tooManySmallOrders",
    Reason.MARGIN: "insufficientAvailableFunds",
    Reason.POSITION_LIMIT: "maxPositionViolation",
    Reason.REDUCE_ONLY: "wouldNotReducePosition",
    Reason.DUPLICATE_CLIENT_ID: "clientOrderIdAlreadyExist",
    Reason.POST_ONLY: "postWouldExecute",
    Reason.FILL_OR_KILL: "iocWouldNotExecute",
    Reason.TOO_MANY_ORDERS: "tooManyOrders",
    Reason.TOO_MANY_STOPS: "tooManyOrders",
}


def status(refused: Refused) -> str:
    """The ``sendStatus.status`` of what the engine refused.

    Raises:
        ApiError: the contract does not exist, which is no status of an order.
    """
    if refused.reason is Reason.UNKNOWN_SYMBOL:
        raise CONTRACT_NOT_FOUND
    return _STATUSES[refused.reason]


def missing(name: str) -> ApiError:
    del name  # the venue does not tell which
    return ApiError("requiredArgumentMissing")


def invalid(name: str) -> ApiError:
    return ApiError(f"invalidArgument: {name}")


AUTHENTICATION = ApiError("authenticationError")
NONCE_BELOW = ApiError("nonceBelowThreshold")
NONCE_DUPLICATE = ApiError("nonceDuplicate")
LIMIT_EXCEEDED = ApiError("apiLimitExceeded")
CONTRACT_NOT_FOUND = ApiError("contractNotFound")
NOT_FOUND = ApiError("notFound", 404)
UNAVAILABLE = ApiError("Unavailable", 503)
BANNED = ApiError("apiLimitExceeded", 429)
JSON_PARSE = ApiError("Json Parse Error", 400)
ORDER_TYPE = BadRequest(11, "invalid order type")
MARGIN = BadRequest(92, "INSUFFICIENT_MARGIN")

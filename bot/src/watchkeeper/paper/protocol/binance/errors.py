"""The venue's error codes and texts.

Source: developers.binance.com, derivatives, USDⓈ-M futures, page *Error Codes*.
"""

from __future__ import annotations

from watchkeeper.paper.model import Reason, Refused


class ApiError(Exception):
    """An answer ``{"code", "msg"}`` with its HTTP status."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status


_CODES: dict[Reason, tuple[int, str]] = {
    Reason.UNKNOWN_SYMBOL: (-1121, "Invalid symbol."),
    Reason.PRECISION: (-1111, "Precision is over the maximum defined for this asset."),
    Reason.TICK_SIZE: (-4014, "Price not increased by tick size."),
    Reason.STEP_SIZE: (-4023, "Quantity not increased by step size."),
    Reason.PRICE_TOO_LOW: (-4013, "Price less than min price."),
    Reason.PRICE_TOO_HIGH: (-4002, "Price greater than max price."),
    Reason.PRICE_ABOVE_BAND: (-4016, "Limit price can't be higher than {}."),
    Reason.PRICE_BELOW_BAND: (-4024, "Limit price can't be lower than {}."),
    Reason.QUANTITY_TOO_SMALL: (-4004, "Quantity less than min quantity."),
    Reason.QUANTITY_TOO_LARGE: (-4005, "Quantity greater than max quantity."),
    Reason.QUANTITY_NOT_POSITIVE: (-4003, "Quantity less than or equal to zero."),
    Reason.STOP_PRICE_NOT_POSITIVE: (-4006, "Stop price less than zero."),
    Reason.NOTIONAL_TOO_SMALL: (
        -4164,
        "Order's notional must be no smaller than {} (unless you choose reduce only).",
    ),
    Reason.MARGIN: (-2019, "Margin is insufficient."),
    Reason.POSITION_LIMIT: (
        -2027,
        "Exceeded the maximum allowable position at current leverage.",
    ),
    Reason.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Reason.DUPLICATE_CLIENT_ID: (-4116, "ClientOrderId is duplicated."),
    Reason.WOULD_TRIGGER: (-2021, "Order would immediately trigger."),
    Reason.UNKNOWN_ORDER: (-2011, "Unknown order sent."),
    Reason.NO_SUCH_ORDER: (-2013, "Order does not exist."),
    Reason.POST_ONLY: (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected.",
    ),
    Reason.FILL_OR_KILL: (
        -5021,
        "Due to the order could not be filled immediately, the FOK order has been rejected.",
    ),
    Reason.TOO_MANY_ORDERS: (-2025, "Reach max open order limit."),
    Reason.TOO_MANY_STOPS: (-4045, "Reach max stop order limit."),
    Reason.CLOSE_POSITION_EXISTS: (
        -4130,
        (
            "An open stop or take profit order with GTE and closePosition in the direction is "
            "existing."
        ),
    ),
    Reason.NOTHING_TO_CLOSE: (
        -4509,
        (
            "Time in Force (TIF) GTE can only be used with open positions. "
            "Please ensure that positions are available."
        ),
    ),
    Reason.LEVERAGE: (-4028, "Leverage {} is not valid"),
    Reason.LEVERAGE_MARGIN: (
        -2028,
        "Leverage is smaller than permitted: insufficient margin balance.",
    ),
    Reason.MARGIN_TYPE_SAME: (-4046, "No need to change margin type."),
    Reason.MARGIN_TYPE_ORDERS: (
        -4047,
        "Margin type cannot be changed if there exists open orders.",
    ),
    Reason.MARGIN_TYPE_POSITION: (
        -4048,
        "Margin type cannot be changed if there exists position.",
    ),
    Reason.POSITION_MODE_SAME: (-4059, "No need to change position side."),
    Reason.POSITION_MODE_ORDERS: (
        -4067,
        "Position side cannot be changed if there exists open orders.",
    ),
    Reason.POSITION_MODE_POSITION: (
        -4068,
        "Position side cannot be changed if there exists position.",
    ),
    Reason.POSITION_SIDE: (-4061, "Order's position side does not match user's setting."),
    Reason.MULTI_ASSETS_SAME: (
        -4171,
        "Adjusted asset mode is currently set and does not need to be adjusted repeatedly.",
    ),
    Reason.MULTI_ASSETS_ISOLATED: (
        -4167,
        (
            "Unable to adjust to Multi-Assets mode with symbols of USDⓈ-M Futures under "
            "isolated-margin mode."
        ),
    ),
    Reason.ISOLATED_IN_MULTI_ASSETS: (
        -4168,
        "Unable to adjust to isolated-margin mode under the Multi-Assets mode.",
    ),
    Reason.LEVERAGE_ISOLATED: (
        -4161,
        "Leverage reduction is not supported in Isolated Margin Mode with open positions.",
    ),
    Reason.NOT_ISOLATED: (-4049, "Add margin only support for isolated position."),
    Reason.ISOLATED_NO_POSITION: (-4054, "Cannot add position margin: position is 0."),
    Reason.CROSS_MARGIN: (-4050, "Cross balance insufficient."),
    Reason.AMOUNT_NOT_POSITIVE: (-4055, "Amount must be positive."),
    Reason.MULTI_ASSETS_ORDERS: (
        -4170,
        "Unable to adjust Multi-Assets Mode with open orders in USDⓈ-M Futures.",
    ),
    Reason.AMEND_NOTIONAL: (-5029, "Order's notional must be no smaller than {}"),
    Reason.AMEND_REDUCE_ONLY: (-5047, "The original order is not a reduce-only order"),
    Reason.AMEND_LIMIT: (-5026, "Exceed maximum modify order limit."),
    Reason.ISOLATED_MARGIN: (-4051, "Isolated balance insufficient."),
    Reason.NOTHING_TO_AMEND: (-5027, "No need to modify the order."),
    Reason.GOOD_TILL_DATE: (
        -5040,
        (
            "The goodTillDate timestamp must be greater than the current time plus 600 seconds and "
            "smaller than 253402300799000"
        ),
    ),
    Reason.NOT_LISTED: (-4140, "Invalid symbol status for opening position."),
    Reason.NOT_SUPPORTED: (-1020, "This operation is not supported: {}."),
}


def from_refusal(refused: Refused) -> ApiError:
    """The venue's answer for what the engine refused."""
    code, text = _CODES[refused.reason]
    return ApiError(code, text.format(*refused.details) if refused.details else text)


def mandatory(name: str) -> ApiError:
    return ApiError(
        -1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
    )


def not_required(name: str) -> ApiError:
    return ApiError(-1106, f"Parameter '{name}' sent when not required.")


def invalid_parameter(name: str) -> ApiError:
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


def invalid_path(method: str, path: str) -> ApiError:
    return ApiError(-5000, f"Path {path}, Method {method} is invalid", 404)


def banned(until_ms: int) -> ApiError:
    return ApiError(
        -1003,
        f"Way too many requests; IP banned until {until_ms}. Please use the websocket for live "
        "updates to avoid bans.",
        418,
    )


def too_many_orders(limit: str) -> ApiError:
    """``limit``: as in "300 orders per 10 SECONDS"."""
    return ApiError(-1015, f"Too many new orders; current limit is {limit}.", 429)


def batch_size(number: int) -> ApiError:
    return ApiError(-4082, f"Invalid number of batch place orders: {number}")


NO_API_KEY = ApiError(-2014, "API-key format invalid.", 401)
REJECTED_KEY = ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
BAD_SIGNATURE = ApiError(-1022, "Signature for this request is not valid.")
STALE = ApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
AHEAD = ApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
BAD_RECV_WINDOW = ApiError(-1131, "recvWindow must be less than 60000.")
BAD_TYPE = ApiError(-1116, "Invalid orderType.")
BAD_SIDE = ApiError(-1117, "Invalid side.")
BAD_TIME_IN_FORCE = ApiError(-1115, "Invalid timeInForce.")
BAD_INTERVAL = ApiError(-1120, "Invalid interval.")
NO_LISTEN_KEY = ApiError(-1125, "This listenKey does not exist.")
USE_ALGO_ENDPOINT = ApiError(
    -4120,
    "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead.",
)
CANCEL_BATCH_SIZE = ApiError(-4032, "Exceed maximum cancel order size.")
BAD_CLIENT_ID = ApiError(-4015, "Client order id is not valid.")
TOO_MANY_REQUESTS = ApiError(
    -1003,
    "Too many requests; current limit is 2400 requests per minute. Please use the websocket for "
    "live updates to avoid polling the API.",
    429,
)

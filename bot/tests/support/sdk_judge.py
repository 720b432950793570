"""Binance's own SDK as a judge: its models know every field of an answer, and find all of theirs.

The SDK parses leniently: unknown fields are put aside and missing ones are None. So the judge looks
at the JSON as it came and at the model's declaration; and the SDK's own strict types, whose
violation it logs before it relaxes them, must hold.
"""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args
from unittest import mock

from binance_common import utils
from binance_common.configuration import ConfigurationRestAPI
from binance_sdk_derivatives_trading_usds_futures.derivatives_trading_usds_futures import (
    DerivativesTradingUsdsFutures,
)
from binance_sdk_derivatives_trading_usds_futures.rest_api.api import (
    account_api,
    market_data_api,
    trade_api,
    user_data_streams_api,
)
from pydantic import BaseModel

_MODULES = (account_api, market_data_api, trade_api, user_data_streams_api)


class Answer(NamedTuple):
    """What a call of the SDK asked, what it got, and the model that it read it by."""

    endpoint: str
    body: Any
    model: type[BaseModel] | None


class Judge:
    """The SDK's REST client on a venue."""

    def __init__(self, key: str, secret: str, ca: Path) -> None:
        context: Any = ssl.create_default_context(cafile=str(ca))  # declared otherwise, and taken
        configuration = ConfigurationRestAPI(
            api_key=key,
            api_secret=secret,
            retries=0,
            https_agent=context,
        )
        self.rest = DerivativesTradingUsdsFutures(config_rest_api=configuration).rest_api

    def ask(self, name: str, **params: Any) -> Answer:
        """Call one of the SDK's methods by its name."""
        asked: list[Any] = []

        def spy(session: Any, *args: Any, **kwargs: Any) -> Any:
            asked.append(kwargs)
            send = session.request

            def keep(*sent: Any, **how: Any) -> Any:
                response = send(*sent, **how)
                asked.append(response)
                return response

            with mock.patch.object(session, "request", keep):
                return utils.send_request(session, *args, **kwargs)

        with contextlib.ExitStack() as stack:
            for module in _MODULES:
                stack.enter_context(mock.patch.object(module, "send_request", spy))
            getattr(self.rest, name)(**params)
        how, response = asked
        endpoint = f"{how['method']} {how['path']}"
        return Answer(endpoint, json.loads(response.text), how.get("response_model"))


def differences(body: Any, model: Any, where: str = "") -> Iterator[str]:
    """Fields of ``body`` that the model has not, and those of the model that are not there."""
    if isinstance(body, list):
        for row in body:
            yield from differences(row, model, f"{where}[]")
        return
    if not isinstance(body, dict) or model is None or body.keys() == {"code", "msg"}:
        return  # an answer without fields, or one of a batch that was refused
    shapes = list(_models(model))
    if not shapes:
        return
    found = [list(_of_one(body, shape, where)) for shape in shapes]
    yield from min(found, key=len)


def _of_one(body: dict[str, Any], model: type[BaseModel], where: str) -> Iterator[str]:
    fields = {
        field.alias or name: field.annotation
        for name, field in model.model_fields.items()
        if name != "additional_properties"
    }
    for name in body.keys() - fields.keys():
        yield f"{where}.{name} is surplus"
    for name, annotation in fields.items():
        if name not in body:
            yield f"{where}.{name} is missing"
        else:
            yield from differences(body[name], annotation, f"{where}.{name}")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models an annotation stands for; a choice between several is told by each of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if "actual_instance" in annotation.model_fields:
            yield from _models(annotation.model_fields["actual_instance"].annotation)
        else:
            yield annotation
        return
    for argument in get_args(annotation):
        yield from _models(argument)

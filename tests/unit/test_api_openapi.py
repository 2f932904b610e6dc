"""The API's own description: valid OpenAPI 3.1, whole, and true to the route table."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from clawmail.api.native.routes import ROUTES
from clawmail.api.openapi import document

DOCUMENT: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document(ROUTES)))


def test_it_is_valid_openapi_3_1() -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    assert DOCUMENT["openapi"] == "3.1.0"
    validator.validate(DOCUMENT)


def test_every_route_is_in_it_and_nothing_else() -> None:
    described = {(method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere() -> None:
    for reference in set(re.findall(r'"\$ref":"#/([^"]+)"', msgspec.json.encode(DOCUMENT).decode())):
        place: Any = DOCUMENT
        for step in reference.split("/"):
            place = place[step]
        assert place


def test_an_operation_is_described_whole() -> None:
    send = DOCUMENT["paths"]["/api/v1/emails/send"]["post"]
    assert send["security"] == [{"inboxKey": []}]
    assert {"201", "400", "401", "409", "413", "422", "429", "500", "503"} <= set(send["responses"])
    assert "Idempotency-Key" in [parameter["name"] for parameter in send["parameters"]]
    body = send["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert {"to", "subject"} <= set(DOCUMENT["components"]["schemas"][body]["required"])
    listing = DOCUMENT["paths"]["/api/v1/emails"]["get"]
    limit = next(parameter for parameter in listing["parameters"] if parameter["name"] == "limit")
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"], limit["schema"]["default"]) == (1, 100, 20)
    assert "RateLimit-Remaining" in listing["responses"]["200"]["headers"]
    assert DOCUMENT["components"]["responses"]["429"]["headers"]["Retry-After"]
    assert DOCUMENT["paths"]["/api/v1/domains/verify"]["post"]["security"] == []


def test_enums_are_of_words() -> None:
    def enums(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [*value.get("enum", ()), *(word for part in value.values() for word in enums(part))]
        return [word for part in value for word in enums(part)] if isinstance(value, list) else []

    assert {type(word) for word in enums(DOCUMENT)} <= {str, type(None)}
    aligned = DOCUMENT["components"]["schemas"]["DkimAlignment"]["properties"]["result"]
    assert {"const": False} in aligned["anyOf"]

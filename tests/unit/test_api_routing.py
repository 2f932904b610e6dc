"""The route table: what is found, what is not there, and what a path may not smuggle in."""

from __future__ import annotations

import pytest

from clawmail.api.errors import MethodNotAllowed
from clawmail.api.routing import Auth, Call, Route, Table
from clawmail.base.errors import NotFound


async def _handler(call: Call) -> None:
    del call


def _route(method: str, path: str, auth: Auth = "inbox") -> Route:
    return Route(method, path, _handler, "", auth)  # type: ignore[arg-type]  # a parameter's str for a Literal


TABLE = Table(
    [
        _route("GET", "/", "none"),
        _route("GET", "/health", "none"),
        _route("GET", "/v1/emails"),
        _route("POST", "/v1/emails/send"),
        _route("GET", "/v1/emails/{id}"),
        _route("DELETE", "/v1/emails/{id}"),
        _route("GET", "/v1/emails/{id}/attachments/{n}"),
        _route("GET", "/v1/emails/{id}/attachments/download"),
    ]
)


@pytest.mark.parametrize(
    ("method", "path", "route", "values"),
    [
        ("GET", "/", "/", {}),
        ("HEAD", "/health", "/health", {}),
        ("GET", "/v1/emails", "/v1/emails", {}),
        ("POST", "/v1/emails/send", "/v1/emails/send", {}),
        ("DELETE", "/v1/emails/7", "/v1/emails/{id}", {"id": "7"}),
        ("GET", "/v1/emails/a%20b", "/v1/emails/{id}", {"id": "a b"}),
        ("GET", "/v1/emails/a%2Fb", "/v1/emails/{id}", {"id": "a/b"}),
        ("GET", "/v1/emails/7/attachments/2", "/v1/emails/{id}/attachments/{n}", {"id": "7", "n": "2"}),
        ("GET", "/v1/emails/7/attachments/download", "/v1/emails/{id}/attachments/download", {"id": "7"}),
        ("GET", "/v1/emails/send/attachments/1", "/v1/emails/{id}/attachments/{n}", {"id": "send", "n": "1"}),
    ],
)
def test_a_route_is_found(method: str, path: str, route: str, values: dict[str, str]) -> None:
    found, parameters = TABLE.find(method, path)
    assert (found.path, parameters) == (route, values)


@pytest.mark.parametrize(
    "path",
    [
        "", "*", "//", "/nothing", "/v1", "/v1/emails/", "/v1/emails/7/", "/v1/emails/7/attachments", "/health/",
        "/v1/emails/%00", "/v1/emails/%ff", "/v1/emails/\udcff", "/v1/emails/%41\udcff",
        "/" * 1000, "/v1/emails/7/attachments/1/" + "x/" * 1000,
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_found(path: str) -> None:
    with pytest.raises(NotFound):
        TABLE.find("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/v1/emails/7", "DELETE, GET"),
        ("HEAD", "/v1/emails/7", "DELETE, GET"),
        ("GET", "/v1/emails/send", "POST"),
        ("OPTIONS", "/health", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: str) -> None:
    with pytest.raises(MethodNotAllowed) as refused:
        TABLE.find(method, path)
    assert refused.value.allowed == allowed


def test_a_route_is_there_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Table([_route("GET", "/a/{x}"), _route("GET", "/a/{y}")])

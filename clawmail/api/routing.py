"""Routes as values, and what a handler gets.

A dialect is a tuple of ``Route``: method, path, who may call, what goes in and what comes out. The frame
(``pipeline``) judges, limits, decodes and encodes by it, ``openapi`` describes it, and the tests walk it, so none of
the three can forget a route. A handler reads its ``Call``, asks one use-case, and returns a Struct.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import web

from clawmail.api.errors import JSON_TYPE, MethodNotAllowed
from clawmail.api.services import Services
from clawmail.base.errors import NotFound, Unauthenticated
from clawmail.core.limits import LimitName
from clawmail.model.tenancy import Principal

#: who may call: nobody has to say who they are; the operator's registration token; a verified domain's token; the token
#: of a domain that may still be pending; a domain's token or an inbox creation key; an inbox's key; an inbox's key or
#: its domain's token.
Auth = Literal["none", "register", "domain", "pending domain", "creation", "inbox", "inbox or domain"]
#: a boolean in a query string: these two words and no other.
QueryFlag = Literal["true", "false"]
#: segments of a path that are looked at; no route of ours has more.
MAX_SEGMENTS = 16

_PARAMETER = re.compile(r"\{(\w+)\}")
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Call:
    """One request, judged and decoded."""

    route: Route
    #: who is calling; None where ``route.auth`` is "none" or "register".
    identity: Principal | None
    #: an instance of ``route.body``; None if it has none.
    body: Any
    #: an instance of ``route.query``; None if it has none.
    query: Any
    #: values of the ``{names}`` in the path, percent-decoded.
    path: Mapping[str, str]
    #: the body's bytes after gzip; b"" when ``route.body`` is None.
    raw_body: bytes
    #: for headers; its body has been read.
    request: web.BaseRequest
    services: Services
    now: datetime
    #: of the caller, seen through the trusted proxies.
    client_ip: str

    @property
    def principal(self) -> Principal:
        """Who is calling. Raises Unauthenticated on a route that asks nobody."""
        if self.identity is None:
            raise Unauthenticated("A key is needed")
        return self.identity


Handler = Callable[[Call], Awaitable[msgspec.Struct | web.StreamResponse | None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
    #: segments in braces are parameters: /api/v1/emails/{id}/archive
    path: str
    handler: Handler
    #: one line for the API description.
    summary: str
    auth: Auth
    #: which limit counts this call; None: none beside the one on strangers.
    limiter: LimitName | None = None
    #: what the JSON body is decoded into; None: the body is not read.
    body: type[msgspec.Struct] | None = None
    #: what the query string is decoded into; unknown names are ignored.
    query: type[msgspec.Struct] | None = None
    #: what a success is encoded from; None: no JSON (no content, or ``content_types``).
    answer: type[msgspec.Struct] | None = None
    status: int = 200
    #: statuses beside those that follow from the other fields (400 input, 401, 404 path parameters, 429, 503).
    errors: tuple[int, ...] = ()
    #: media types of a success that is not JSON.
    content_types: tuple[str, ...] = ()
    #: request header → what it is for.
    request_headers: Mapping[str, str] = field(default_factory=dict)
    #: shown in the API description.
    documented: bool = True

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the path parameters, in order."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def name(self) -> str:
        """Method and path: stands for the route in logs, metrics and Idempotency-Keys."""
        return f"{self.method} {self.path}"


def json_response(
    answer: msgspec.Struct, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """``answer`` as a response: for handlers that set headers or a status of their own."""
    return encoded_response(_encoder.encode(answer), status=status, headers=headers)


def encoded_response(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """JSON that is already encoded (a stored answer) as a response."""
    return web.Response(status=status, body=body, headers={"Content-Type": JSON_TYPE, **(headers or {})})


class _Node:
    """One place in the tree of paths."""

    __slots__ = ("children", "methods", "parameter")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.parameter: _Node | None = None
        #: method → (route, the names of its parameters).
        self.methods: dict[str, tuple[Route, tuple[str, ...]]] = {}


class Table:
    """All routes; finds the one for a method and a path in time that does not depend on how many there are."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node = self._root
        for segment in route.path.split("/")[1:]:
            if segment.startswith("{"):
                node.parameter = node = node.parameter or _Node()
            else:
                node = node.children.setdefault(segment, _Node())
        if route.method in node.methods:
            raise ValueError(f"{route.name} is there twice")
        node.methods[route.method] = (route, route.parameters)

    def find(self, method: str, raw_path: str) -> tuple[Route, Mapping[str, str]]:
        """The route for a method and a path as it stood in the request line, and its path parameters.

        Raises NotFound for a path that is not there, MethodNotAllowed for one that does not take the method.
        """
        segments = raw_path.split("/", MAX_SEGMENTS)[1:]
        found = _walk(self._root, segments, 0, [])
        if found is None:
            raise NotFound("No such path")
        node, values = found
        # A public page may be asked for its headers alone (RFC 9110 section 9.3.2); reading mail has effects.
        entry = node.methods.get(method) or (node.methods.get("GET") if method == "HEAD" else None)
        if entry is None or (method == "HEAD" and entry[0].auth != "none"):
            raise MethodNotAllowed(", ".join(sorted(node.methods)))
        route, names = entry
        return route, dict(zip(names, values, strict=True)) if names else {}


def _walk(node: _Node, segments: list[str], depth: int, values: list[str]) -> tuple[_Node, list[str]] | None:
    """A word of a path beats a parameter; where the word leads nowhere, the parameter is tried."""
    if depth == len(segments):
        return (node, values) if node.methods else None
    segment = segments[depth]
    if (child := node.children.get(segment)) is not None and (found := _walk(child, segments, depth + 1, values)):
        return found
    if node.parameter is None or not (value := _unquoted(segment)):
        return None
    return _walk(node.parameter, segments, depth + 1, [*values, value])


def _unquoted(segment: str) -> str:
    """A path segment percent-decoded; "" for what is no text, which matches nothing."""
    if "%" not in segment and segment.isascii():
        return segment
    try:
        value = unquote_to_bytes(segment).decode()
    except UnicodeError:
        return ""
    return "" if "\x00" in value else value

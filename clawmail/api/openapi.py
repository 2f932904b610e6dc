"""OpenAPI 3.1 of the API, generated from the route table and the very types that the handlers take and answer."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec
from aiohttp import web

from clawmail.api.errors import ErrorBody
from clawmail.api.pages import base_url
from clawmail.api.routing import Auth, Call, Route, encoded_response

Document = dict[str, Any]

_REF = "#/components/schemas/{name}"

#: who may call → the security requirement, alternatives side by side ({} is nobody in particular).
SECURITY: dict[Auth, list[dict[str, list[str]]]] = {
    "none": [],
    "register": [{"registrationToken": []}, {}],
    "domain": [{"domainToken": []}],
    "pending domain": [{"domainToken": []}],
    "creation": [{"domainToken": []}, {"inboxCreationKey": []}],
    "inbox": [{"inboxKey": []}],
    "inbox or domain": [{"inboxKey": []}, {"domainToken": []}],
}
SCHEMES = {
    "registrationToken": "The operator's token for registering domains, where the server asks for one",
    "domainToken": "A domain's verification_token",
    "inboxCreationKey": "A key for making one inbox: cmic_ and 64 hex digits",
    "inboxKey": "<email>:<inbox_api_key>: the inbox's address, a colon, and cm_ with 64 hex digits",
}
MEANINGS = {
    400: "The request is wrong; the message names the field",
    401: "No key, a wrong or revoked one, or one of the wrong kind",
    403: "The key does not open this",
    404: "No such thing among what the caller owns",
    408: "The request body did not arrive in time",
    409: "The state of things forbids it now",
    410: "It was there and has expired",
    413: "The request body is too large",
    422: "The Idempotency-Key was used with another body",
    429: "Too many requests; Retry-After says how many seconds to wait",
    500: "A fault of the server, which it has logged",
    503: "The store is not available; try again",
}
RATE_HEADERS = {
    "RateLimit-Limit": "Requests allowed in a window",
    "RateLimit-Remaining": "Requests left in this window",
    "RateLimit-Reset": "Seconds until the window ends",
    "RateLimit-Policy": "Requests and the window's length in seconds, as 100;w=3600",
    "Retry-After": "Seconds to wait before the next try",
}


def document(routes: Iterable[Route]) -> Document:
    """The description of ``routes``."""
    routes = [route for route in routes if route.documented]
    kinds = {kind for route in routes for kind in (route.body, route.answer) if kind is not None}
    types: list[type[msgspec.Struct]] = [*sorted(kinds, key=lambda kind: (kind.__name__, kind.__module__)), ErrorBody]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    components = _with_constants(components)
    refs = dict(zip(types, schemas, strict=True))
    paths: dict[str, Document] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Clawmail",
            "version": _version(),
            "description": "A mail server for programs and agents: mail in over SMTP, out over HTTP. See /api.md.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {str(status): _error_response(status, refs[ErrorBody]) for status in MEANINGS},
            "headers": {
                name: {"description": text, "schema": {"type": "string" if name == "RateLimit-Policy" else "integer"}}
                for name, text in RATE_HEADERS.items()
            },
            "securitySchemes": {
                name: {"type": "http", "scheme": "bearer", "description": text} for name, text in SCHEMES.items()
            },
        },
    }


def _with_constants(schema: Any) -> Any:
    """``schema`` with ``{"enum": [false]}`` as ``{"const": false}``: generators of clients know only enums of words."""
    if isinstance(schema, dict):
        if schema.get("enum") == [False]:
            schema = {**{name: value for name, value in schema.items() if name != "enum"}, "const": False}
        return {name: _with_constants(value) for name, value in schema.items()}
    return [_with_constants(value) for value in schema] if isinstance(schema, list) else schema


def _version() -> str:
    try:
        return version("clawmail")
    except PackageNotFoundError:
        return "0"


def _operation(route: Route, refs: dict[type[msgspec.Struct], Document]) -> Document:
    handler = getattr(route.handler, "__name__", route.name)
    operation: Document = {
        "operationId": handler,
        "summary": route.summary,
        "tags": [_tag(route.path)],
        "security": SECURITY[route.auth],
        "responses": _responses(route, refs),
    }
    if parameters := _parameters(route):
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": refs[route.body]}}}
    return operation


def _tag(path: str) -> str:
    """The noun of a path under /api/v1; "server" for the rest."""
    parts = path.split("/")
    return parts[3] if path.startswith("/api/v1/") else "server"


def _parameters(route: Route) -> list[Document]:
    in_path = [{"name": n, "in": "path", "required": True, "schema": {"type": "string"}} for n in route.parameters]
    in_headers = [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in route.request_headers.items()
    ]
    return in_path + _query_parameters(route.query) + in_headers


def _query_parameters(kind: type[msgspec.Struct] | None) -> list[Document]:
    if kind is None:
        return []
    (_,), components = msgspec.json.schema_components([kind], ref_template=_REF)
    schema = components[kind.__name__]
    parameters = []
    for name, described in schema["properties"].items():
        own = dict(described)
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": own}
        if text := own.pop("description", ""):
            parameter["description"] = text
        parameters.append(parameter)
    return parameters


def _responses(route: Route, refs: dict[type[msgspec.Struct], Document]) -> Document:
    success: Document = {"description": "Done, nothing to say" if route.status == 204 else "Done"}
    if route.answer is not None:
        success["content"] = {"application/json": {"schema": refs[route.answer]}}
    elif route.content_types:
        success["content"] = {kind: {"schema": _raw_schema(kind)} for kind in route.content_types}
    if 429 in (statuses := _error_statuses(route)):
        success["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in list(RATE_HEADERS)[:4]}
    answers = {str(route.status): success}
    return answers | {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _raw_schema(content_type: str) -> Document:
    if content_type == "application/json":
        return {"type": "object"}
    return {"type": "string"} if content_type.startswith("text/") else {"type": "string", "format": "binary"}


def _error_statuses(route: Route) -> Sequence[int]:
    """The errors that follow from what the route takes, and its own."""
    statuses = {*route.errors, 500}
    if route.auth != "none" or route.answer is not None:
        statuses.add(503)
    if route.auth != "none":
        statuses.add(401)
    if route.body is not None:
        statuses |= {400, 408, 413}
    if route.query is not None:
        statuses.add(400)
    if route.parameters:
        statuses.add(404)
    if route.limiter is not None or route.auth in ("inbox", "inbox or domain"):
        statuses.add(429)
    return sorted(statuses)


def _error_response(status: int, schema: Document) -> Document:
    response: Document = {"description": MEANINGS[status], "content": {"application/json": {"schema": schema}}}
    if status == 429:
        response["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in RATE_HEADERS}
    if status == 503:
        response["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return response


def with_description(routes: Sequence[Route]) -> tuple[Route, ...]:
    """``routes`` and GET /openapi.json, which describes them and itself."""

    @functools.cache
    def described() -> Document:
        return document(everything)

    async def get_openapi(call: Call) -> web.Response:
        """GET /openapi.json"""
        at_this_address = described() | {"servers": [{"url": base_url(call)}]}
        return encoded_response(msgspec.json.encode(at_this_address), headers={"Cache-Control": "public, max-age=300"})

    own = Route(
        "GET",
        "/openapi.json",
        get_openapi,
        "This description",
        auth="none",
        content_types=("application/json",),
    )
    everything = (*routes, own)
    return everything

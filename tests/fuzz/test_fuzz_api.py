"""The HTTP API under schemathesis: whatever the description allows, and whatever it forbids, on every route.

The invariants: no 500, no status, header or body that ``/openapi.json`` does not announce. Requests go to the real
daemon. A schema cannot tell which ids are there and which addresses can be written to, so half of the path parameters
are those of real things, and some or all fields of a body are good ones; or every answer would be 404 or 400.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from clawmail.api.native.routes import ROUTES
from tests.support.house import House, furnished_house
from tests.support.postgres import TestServer

#: requests of each route and kind; all routes together take some 30 s.
EXAMPLES = 15
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
#: what would take the tenant, or its email, away from the other tests.
DESTRUCTIVE = {"DELETE /api/v1/domains/{domain}", "DELETE /api/v1/api-keys/{key}", "DELETE /api/v1/emails/{id}"}
#: a good value for fields whose meaning a schema cannot tell.
GOOD: Mapping[str, Any] = {
    "to": ["bob@nowhere.test"],
    "cc": "Eve <eve@nowhere.test>",
    "bcc": [],
    "reply_to": "desk@fuzz.example",
    "subject": "hello",
    "text": "Hi",
    "html": "<p>Hi</p>",
    "headers": {"X-Fuzz": "yes"},
    "attachments": [{"filename": "a.txt", "content": "QQ=="}],
    "is_read": True,
    "is_archived": False,
    "match_field": "subject",
    "regex_pattern": "never",
    "destination_email": "boss@there.test",
    "domain": "another.example",
    "email": "agent@fuzz.example",
    "label": "fuzz",
}
OPERATIONS = [f"{route.method} {route.path}" for route in ROUTES if route.documented]

LETTER = (
    b"From: Ann <ann@author.test>\r\nTo: agent@fuzz.example\r\nSubject: hello\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="e"\r\n\r\n--e\r\n\r\nHi\r\n'
    b'--e\r\nContent-Disposition: attachment; filename="a.txt"\r\n\r\nA\r\n--e--\r\n'
)


@dataclass
class Target:
    """A daemon with one of everything."""

    house: House
    #: security scheme → a good credential for it.
    credentials: Mapping[str, str]
    #: (noun of the path, parameter) → one that is there.
    things: Mapping[tuple[str, str], str]
    operations: Mapping[str, Any]
    session: requests.Session


@pytest.fixture(scope="module")
async def target(postgres: TestServer) -> AsyncIterator[Target]:
    """A tenant with mail, keys and a rule, and the description that the daemon gives of itself."""
    url = await postgres.create()
    async with furnished_house(url) as house:
        domain = await house.domain("fuzz.example")
        inbox = await domain.inbox("agent")
        assert (await house.deliver(LETTER, inbox.address))[0] == 250
        (email,) = await inbox.emails()
        creation = await house.daemon.post("/api/v1/inbox-creation-keys", domain.token)
        rule = await domain.rule("never", "boss@there.test")
        async with house.daemon.request("GET", "/openapi.json") as response:
            described: Any = schemathesis.openapi.from_dict(await response.json())
        found = [result.ok() for result in described.get_all_operations()]
        with requests.Session() as session:
            yield Target(
                house,
                {
                    "registrationToken": "",
                    "domainToken": domain.token,
                    "inboxCreationKey": creation["inbox_creation_key"],
                    "inboxKey": inbox.key,
                },
                {
                    ("emails", "id"): email["id"],
                    ("emails", "n"): "1",
                    ("threads", "id"): email["thread_id"],
                    ("domains", "domain"): domain.name,
                    ("forwarding-rules", "id"): rule["id"],
                    ("inbox-creation-keys", "key"): creation["id"],
                },
                {f"{operation.method.upper()} {operation.path}": operation for operation in found},
                session,
            )
        assert [line for line in house.daemon.log if line.get("level") == "error"] == []
    await postgres.drop(url)


async def test_every_route_is_in_the_description(target: Target) -> None:
    assert set(target.operations) == set(OPERATIONS)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["allowed", "forbidden"])
async def test_no_answer_is_outside_the_description(target: Target, operation: str, mode: GenerationMode) -> None:
    # In a thread: the daemon's log is read by this loop, and a full pipe would stop the daemon.
    await asyncio.to_thread(_walk, target, operation, mode)


def _walk(target: Target, name: str, mode: GenerationMode) -> None:
    operation = target.operations[name]
    if mode is GenerationMode.NEGATIVE and not _can_be_wrong(operation):
        return
    schemes = [scheme for wanted in operation.definition.raw.get("security", []) for scheme in wanted]
    keys = [target.credentials[scheme] for scheme in schemes] or [""]

    good_fields = st.just(frozenset(GOOD)) | st.frozensets(st.sampled_from(sorted(GOOD)))

    @given(case=operation.as_strategy(mode), real=st.booleans(), good=good_fields, key=st.sampled_from(keys))
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any, real: bool, good: frozenset[str], key: str) -> None:
        if real and name not in DESTRUCTIVE:
            noun = name.partition("/api/v1/")[2].partition("/")[0]
            for parameter in case.path_parameters:
                case.path_parameters[parameter] = target.things.get((noun, parameter), "x")
        if real and isinstance(case.body, dict):
            case.body = case.body | {field: GOOD[field] for field in good}
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        answer = case.call(base_url=target.house.daemon.api, session=target.session, headers=headers)
        case.validate_response(answer, checks=CHECKS)

    ask()


def _can_be_wrong(operation: Any) -> bool:
    """Whether there is anything in a request that the description could forbid."""
    return bool(operation.body) or bool(operation.query) or bool(operation.path_parameters)

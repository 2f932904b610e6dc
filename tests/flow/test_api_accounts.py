"""The account side of the API over real HTTP: domains, keys, inboxes and forwarding rules, call by call."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from clawmail.api import pages, public
from clawmail.api.native import accounts
from clawmail.base.errors import Conflict, NotFound, Unauthenticated
from clawmail.base.secrets import Keyring
from clawmail.core.dkim_keys import DkimKeys
from clawmail.store.db import Database
from tests.support.api import Api, running_api, settings_with
from tests.support.zones import ScriptedResolver

ROUTES = (*public.ROUTES, *pages.ROUTES, *accounts.ROUTES)


@pytest.fixture
async def api(db: Database) -> AsyncIterator[Api]:
    """An entrance with the account routes and an empty DNS."""
    async with running_api(db, ROUTES) as running:
        yield running


async def test_health_tells_the_time_with_milliseconds(api: Api) -> None:
    answer = await api.get("/health")
    assert answer.status == 200
    assert answer.json["status"] == "ok"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", answer.json["timestamp"])


async def test_registration_names_the_records_to_publish(api: Api) -> None:
    answer = await api.post("/api/v1/domains/register", {"domain": " Claw.Example. "})
    assert answer.status == 201
    body = answer.json
    assert re.fullmatch(r"cmd_[0-9a-f]{64}", body["verification_token"])
    assert body["dns_txt_record"] == "_clawmail.claw.example"
    assert re.fullmatch(r"clawmail-verify=[0-9a-f]+", body["dns_txt_value"])
    assert body["mx_record"] == "mx.claw.example"
    assert body["a_record"] == {"name": "mx.claw.example", "value": "203.0.113.10"}


async def test_what_is_no_domain_name_is_refused(api: Api) -> None:
    for name in ("", "localhost", "a b.example", "-", "127.0.0.1", "x" * 300, "_dmarc.example.com", 7, None):
        answer = await api.post("/api/v1/domains/register", {"domain": name})
        assert answer.status == 400, name
        assert "domain" in answer.json["error"]


async def test_an_international_name_is_registered_by_its_a_labels(api: Api) -> None:
    answer = await api.post("/api/v1/domains/register", {"domain": "Bücher.example"})
    assert answer.json["mx_record"] == "mx.xn--bcher-kva.example"


async def test_registering_again_rotates_token_and_value(api: Api) -> None:
    first = (await api.post("/api/v1/domains/register", {"domain": "claw.example"})).json
    second = (await api.post("/api/v1/domains/register", {"domain": "claw.example"})).json
    assert first["verification_token"] != second["verification_token"]
    assert first["dns_txt_value"] != second["dns_txt_value"]
    api.publish("claw.example", first)
    old = await api.post("/api/v1/domains/verify", {"verification_token": first["verification_token"]})
    assert (old.status, old.json["error"]) == (404, "Invalid or expired verification token")
    # The old TXT value proves nothing for the new token.
    new = await api.post("/api/v1/domains/verify", {"verification_token": second["verification_token"]})
    assert (new.status, new.json["error"]) == (400, "DNS verification failed. TXT: FAIL, MX: OK, A: OK")


async def test_registrations_of_one_name_at_the_same_moment_leave_one_token(api: Api, db: Database) -> None:
    answers = await asyncio.gather(
        *[api.post("/api/v1/domains/register", {"domain": "claw.example"}) for _ in range(4)]
    )
    assert [answer.status for answer in answers] == [201] * 4
    tokens = [answer.json["verification_token"] for answer in answers]
    opened = [(await api.get("/api/v1/domains", key=token)).status for token in tokens]
    assert sorted(opened) == [200, 401, 401, 401]
    async with db.connection() as conn:
        assert await conn.fetchval("SELECT count(*) FROM organisations") == 1


async def test_verification_wants_all_three_records(api: Api) -> None:
    registered = (await api.post("/api/v1/domains/register", {"domain": "claw.example"})).json
    token = {"verification_token": registered["verification_token"]}
    nothing = await api.post("/api/v1/domains/verify", token)
    assert nothing.status == 400
    assert nothing.json == {
        "error": "DNS verification failed. TXT: FAIL, MX: FAIL, A: FAIL",
        "code": "dns_verification_failed",
    }
    api.publish("claw.example", registered)
    api.zone["mx.claw.example"] = {"A": ["198.51.100.1"]}
    wrong_address = await api.post("/api/v1/domains/verify", token)
    assert wrong_address.json["error"] == "DNS verification failed. TXT: OK, MX: OK, A: FAIL"
    api.publish("claw.example", registered)
    verified = await api.post("/api/v1/domains/verify", token)
    assert verified.status == 200
    year = datetime.now(UTC).year
    assert verified.json["domain"] == "claw.example"
    assert verified.json["verified"] is True
    assert verified.json["dkim"]["selector"] == f"clawmail{year}"
    assert verified.json["dkim"]["dns_record_name"] == f"clawmail{year}._domainkey.claw.example"
    assert verified.json["dkim"]["dns_record_value"].startswith("v=DKIM1; k=rsa; p=MIIBIjAN")
    # A client that lost the answer asks again and gets the same.
    assert (await api.post("/api/v1/domains/verify", token)).json == verified.json


async def test_a_verified_domain_is_not_registered_again(api: Api) -> None:
    await api.verified_domain("claw.example")
    answer = await api.post("/api/v1/domains/register", {"domain": "claw.example"})
    assert (answer.status, answer.json["error"]) == (409, "Domain is already verified")


async def test_a_registration_is_forgotten_after_72_hours(api: Api) -> None:
    registered = (await api.post("/api/v1/domains/register", {"domain": "claw.example"})).json
    token = registered["verification_token"]
    listed = (await api.get("/api/v1/domains", key=token)).json["domains"]
    until = datetime.fromisoformat(listed[0]["pending_until"])
    assert abs(until - datetime.now(UTC) - timedelta(hours=72)) < timedelta(minutes=1)
    assert await api.services.domains.forget_expired(until - timedelta(seconds=1)) == 0
    assert await api.services.domains.forget_expired(until + timedelta(seconds=1)) == 1
    answer = await api.post("/api/v1/domains/verify", {"verification_token": token})
    assert answer.status == 404


async def test_a_pending_domains_token_opens_nothing_but_its_setup(api: Api) -> None:
    registered = (await api.post("/api/v1/domains/register", {"domain": "claw.example"})).json
    token = registered["verification_token"]
    assert (await api.get("/api/v1/inboxes", key=token)).status == 401
    assert (await api.post("/api/v1/api-keys", {"email": "a@claw.example"}, key=token)).status == 401
    domains = (await api.get("/api/v1/domains", key=token)).json["domains"]
    assert [(d["domain"], d["verified"]) for d in domains] == [("claw.example", False)]
    records = (await api.get("/api/v1/domains/claw.example/dns", key=token)).json["records"]
    assert len(records) == 6
    assert (await api.delete("/api/v1/domains/claw.example", key=token)).status == 204


async def test_the_registration_token_of_the_operator(db: Database) -> None:
    settings = settings_with(api={"domain_register_token": "let me in"})
    async with running_api(db, ROUTES, settings=settings) as api:
        body = {"domain": "claw.example"}
        assert (await api.post("/api/v1/domains/register", body)).status == 401
        assert (await api.post("/api/v1/domains/register", body, key="let me out")).status == 401
        assert (await api.post("/api/v1/domains/register", body, key="let me in")).status == 201


async def test_six_records_with_their_state_and_fix(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    path = "/api/v1/domains/claw.example/dns"
    records = (await api.get(path, key=token)).json["records"]
    year = datetime.now(UTC).year
    assert [(r["type"], r["name"], r["state"]) for r in records] == [
        ("TXT", "_clawmail.claw.example", "ok"),
        ("MX", "claw.example", "ok"),
        ("A", "mx.claw.example", "ok"),
        ("TXT", f"clawmail{year}._domainkey.claw.example", "missing"),
        ("TXT", "claw.example", "missing"),
        ("TXT", "_dmarc.claw.example", "missing"),
    ]
    assert [r["value"] for r in records[1:3]] == ["mx.claw.example", "203.0.113.10"]
    assert records[1]["priority"] == 10
    assert "priority" not in records[0]
    assert [r["value"] for r in records[4:]] == [
        "v=spf1 a:mx.claw.example -all",
        "v=DMARC1; p=none; rua=mailto:dmarc@claw.example",
    ]
    assert all((r["fix"] == "") == (r["state"] == "ok") for r in records)
    for record in records[3:]:
        api.zone.setdefault(record["name"], {})["TXT"] = [record["value"]]
    assert {r["state"] for r in (await api.get(path, key=token)).json["records"]} == {"ok"}
    api.zone["claw.example"]["TXT"] = ["v=spf1 ip4:203.0.113.0/24 ~all", "other words"]
    api.zone["_dmarc.claw.example"]["TXT"] = ["v=DMARC1; p=reject", "v=DMARC1; p=none"]
    again = (await api.get(path, key=token)).json["records"]
    assert again[4]["state"] == "ok"
    assert again[4]["found"] == ["v=spf1 ip4:203.0.113.0/24 ~all"]
    assert again[5]["state"] == "wrong"
    assert "_dmarc.claw.example" in again[5]["fix"]


async def test_another_domains_dns_is_not_found(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    await api.verified_domain("other.example")
    assert (await api.get("/api/v1/domains/other.example/dns", key=token)).status == 404
    assert (await api.post("/api/v1/domains/other.example/dkim/rotate", key=token)).status == 404
    assert (await api.delete("/api/v1/domains/other.example", key=token)).status == 404


async def _states(db: Database) -> dict[str, str]:
    async with db.connection() as conn:
        return {row["selector"]: row["state"] for row in await conn.fetch("SELECT selector, state FROM dkim_keys")}


async def test_a_dkim_key_is_rotated_without_a_gap(api: Api, db: Database) -> None:
    token = await api.verified_domain("claw.example")
    year = datetime.now(UTC).year
    first, second = f"clawmail{year}", f"clawmail{year}b"
    rotated = await api.post("/api/v1/domains/claw.example/dkim/rotate", key=token)
    assert rotated.status == 201
    assert rotated.json["selector"] == second
    assert rotated.json["dns_record_name"] == f"{second}._domainkey.claw.example"
    # The old key signs on until the new record is seen; asking again makes no third key.
    assert await _states(db) == {first: "active", second: "waiting"}
    assert (await api.post("/api/v1/domains/claw.example/dkim/rotate", key=token)).json == rotated.json
    await api.get("/api/v1/domains/claw.example/dns", key=token)
    assert await _states(db) == {first: "active", second: "waiting"}
    api.zone[rotated.json["dns_record_name"]] = {"TXT": [rotated.json["dns_record_value"]]}
    await api.get("/api/v1/domains/claw.example/dns", key=token)
    assert await _states(db) == {first: "retired", second: "active"}
    third = (await api.post("/api/v1/domains/claw.example/dkim/rotate", key=token)).json
    assert third["selector"] == f"clawmail{year}c"


async def test_upkeep_sees_a_waiting_key_by_itself(api: Api, db: Database) -> None:
    token = await api.verified_domain("claw.example")
    rotated = (await api.post("/api/v1/domains/claw.example/dkim/rotate", key=token)).json
    changed: list[str] = []
    keys = DkimKeys(db, keyring=Keyring(bytes(32)), resolver=ScriptedResolver(api.zone), changed=changed.append)
    assert await keys.promote_waiting_keys(datetime.now(UTC)) == 0
    api.zone[rotated["dns_record_name"]] = {"TXT": [rotated["dns_record_value"]]}
    assert await keys.promote_waiting_keys(datetime.now(UTC)) == 1
    assert changed == ["claw.example"]
    assert (await _states(db))[rotated["selector"]] == "active"


async def test_a_trusted_domain_needs_no_dns(api: Api) -> None:
    registered = await api.services.domains.add_trusted("trusted.example", datetime.now(UTC))
    assert registered.domain.verified
    domains = (await api.get("/api/v1/domains", key=registered.token)).json["domains"]
    assert [(d["verified"], d["trusted"]) for d in domains] == [(True, True)]
    assert (await api.post("/api/v1/inbox-creation-keys", key=registered.token)).status == 201


async def test_a_removed_domain_is_gone_at_once_and_free_again(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    await api.inbox(token, "agent@claw.example")
    assert (await api.get("/api/v1/inboxes", key=token)).status == 200
    assert (await api.delete("/api/v1/domains/CLAW.example", key=token)).status == 204
    assert (await api.get("/api/v1/inboxes", key=token)).status == 401
    new_token = await api.verified_domain("claw.example")
    assert (await api.get("/api/v1/inboxes", key=new_token)).json == {"inboxes": []}


async def test_a_creation_key_opens_once_and_only_new_inboxes(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    made = await api.post("/api/v1/inbox-creation-keys", key=token)
    assert made.status == 201
    key = made.json["inbox_creation_key"]
    assert re.fullmatch(r"cmic_[0-9a-f]{64}", key)
    assert made.json["key_prefix"] == key[:11]
    life = datetime.fromisoformat(made.json["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < life <= timedelta(hours=1)
    await api.inbox(token, "taken@claw.example")
    taken = await api.post("/api/v1/api-keys", {"email": "taken@claw.example"}, key=key)
    assert (taken.status, taken.json["error"]) == (409, "Inbox already exists")
    foreign = await api.post("/api/v1/api-keys", {"email": "a@other.example"}, key=key)
    assert (foreign.status, foreign.json["error"]) == (400, "Email must be on the domain claw.example")
    # Neither of the two used it up.
    first = await api.post("/api/v1/api-keys", {"email": "agent@claw.example", "label": "my-agent"}, key=key)
    assert first.status == 201
    assert first.json["label"] == "my-agent"
    again = await api.post("/api/v1/api-keys", {"email": "agent2@claw.example"}, key=key)
    assert again.status == 401


async def test_of_two_uses_of_one_creation_key_at_once_one_wins(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    key = (await api.post("/api/v1/inbox-creation-keys", key=token)).json["inbox_creation_key"]
    answers = await asyncio.gather(
        *[api.post("/api/v1/api-keys", {"email": f"agent{n}@claw.example"}, key=key) for n in range(4)]
    )
    assert sorted(answer.status for answer in answers) == [201, 401, 401, 401]


async def test_a_creation_key_is_revoked_by_id_or_prefix_and_expires(api: Api, db: Database) -> None:
    token = await api.verified_domain("claw.example")
    made = [(await api.post("/api/v1/inbox-creation-keys", key=token)).json for _ in range(3)]
    assert (await api.delete(f"/api/v1/inbox-creation-keys/{made[0]['id']}", key=token)).status == 204
    assert (await api.delete(f"/api/v1/inbox-creation-keys/{made[1]['key_prefix']}", key=token)).status == 204
    assert (await api.delete(f"/api/v1/inbox-creation-keys/{made[1]['key_prefix']}", key=token)).status == 404
    async with db.transaction() as conn:
        await conn.execute("UPDATE access_keys SET expires_at = now() WHERE prefix = $1", made[2]["key_prefix"])
    for key in made:
        body = {"email": "agent@claw.example"}
        assert (await api.post("/api/v1/api-keys", body, key=key["inbox_creation_key"])).status == 401


async def test_an_inbox_key_is_made_listed_and_revoked(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    made = (await api.post("/api/v1/api-keys", {"email": "Agent@Claw.Example", "label": "x"}, key=token)).json
    assert re.fullmatch(r"cm_[0-9a-f]{64}", made["api_key"])
    assert made["key_prefix"] == made["api_key"][:11]
    assert made["email"].lower() == "agent@claw.example"
    unlabelled = (await api.post("/api/v1/api-keys", {"email": "agent@claw.example"}, key=token)).json
    assert unlabelled["label"] is None
    listed = (await api.get("/api/v1/api-keys", key=token)).json["api_keys"]
    assert [key["key_prefix"] for key in listed] == [made["key_prefix"], unlabelled["key_prefix"]]
    assert set(listed[0]) == {"id", "key_prefix", "email", "label", "created_at", "last_used_at", "revoked_at"}
    principal = await api.services.access.inbox("agent@claw.example", made["api_key"])
    assert principal.address == made["email"]
    used = (await api.get("/api/v1/api-keys", key=token)).json["api_keys"]
    assert used[0]["last_used_at"] is not None
    assert (await api.delete(f"/api/v1/api-keys/{made['key_prefix']}", key=token)).status == 204
    assert (await api.delete(f"/api/v1/api-keys/{unlabelled['id']}", key=token)).status == 204
    assert all(k["revoked_at"] for k in (await api.get("/api/v1/api-keys", key=token)).json["api_keys"])
    assert (await api.delete(f"/api/v1/api-keys/{made['id']}", key=token)).status == 404
    assert len((await api.get("/api/v1/inboxes", key=token)).json["inboxes"]) == 1


async def test_what_is_no_address_or_label_is_refused(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    for body in ({}, {"email": 5}, {"email": "no-at"}, {"email": "a@claw.example", "label": 5}, {"email": ""}):
        answer = await api.post("/api/v1/api-keys", body, key=token)
        assert (answer.status, answer.json["code"]) == (400, "invalid"), body


async def test_counts_of_an_inbox_are_strings(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    await api.inbox(token, "agent@claw.example")
    await api.inbox(token, "catchall@claw.example")
    agent, catch_all = (await api.get("/api/v1/inboxes", key=token)).json["inboxes"]
    created_at = agent.pop("created_at")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created_at)
    assert re.fullmatch(r"[0-9a-f-]{36}", agent.pop("id"))
    assert agent == {
        "address": "agent@claw.example",
        "local_part": "agent",
        "storage_used_bytes": "0",
        "storage_quota_bytes": "524288000",
        "is_catch_all": False,
        "unread_count": "0",
    }
    assert catch_all["is_catch_all"] is True


async def test_forwarding_rules_come_and_go(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    wanted = {
        "match_field": "subject",
        "regex_pattern": "^(?i:invoice|receipt)",
        "destination_email": "alerts@other.example",
    }
    made = await api.post("/api/v1/forwarding-rules", wanted, key=token)
    assert made.status == 201
    assert {name: made.json[name] for name in wanted} == wanted
    assert made.json["is_active"] is True
    assert (await api.get("/api/v1/forwarding-rules", key=token)).json == {"rules": [made.json]}
    deleted = await api.delete(f"/api/v1/forwarding-rules/{made.json['id']}", key=token)
    assert (deleted.status, deleted.body) == (204, b"")
    assert (await api.delete(f"/api/v1/forwarding-rules/{made.json['id']}", key=token)).status == 404
    assert (await api.delete("/api/v1/forwarding-rules/nonsense", key=token)).status == 404
    assert (await api.get("/api/v1/forwarding-rules", key=token)).json == {"rules": []}


async def test_a_rule_that_cannot_work_is_refused(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    wanted = {"match_field": "from", "regex_pattern": "a" * 1024, "destination_email": "b@other.example"}
    assert (await api.post("/api/v1/forwarding-rules", wanted, key=token)).status == 201
    for field, value, said in (
        ("match_field", "body", "match_field must be one of: from, to, subject"),
        ("regex_pattern", "", "regex_pattern is required"),
        ("regex_pattern", "^(?=.*invoice).*$", "RE2"),
        ("regex_pattern", r"(foo)\1", "RE2"),
        ("regex_pattern", "a(?!b)", "RE2"),
        ("regex_pattern", "(?<=a)b", "RE2"),
        ("regex_pattern", "a" * 1025, "at most 1024 characters"),
        ("regex_pattern", "(a|b){0,999}c" * 7, "too costly"),
        ("destination_email", "nobody", "destination_email"),
        ("destination_email", "a@[127.0.0.1]", "destination_email"),
    ):
        answer = await api.post("/api/v1/forwarding-rules", wanted | {field: value}, key=token)
        assert answer.status == 400, value
        assert said in answer.json["error"]
    assert len((await api.get("/api/v1/forwarding-rules", key=token)).json["rules"]) == 1


async def test_what_the_operator_does_by_command(api: Api) -> None:
    domains, inboxes, now = api.services.domains, api.services.inboxes, datetime.now(UTC)
    first = await domains.add_trusted("claw.example", now)
    assert [d.name for d in await domains.all(now)] == ["claw.example"]
    second = await domains.another_token("claw.example", now)
    for token in (first.token, second):
        assert (await api.get("/api/v1/inboxes", key=token)).status == 200
    owner = await domains.owner("CLAW.example")
    inbox = await inboxes.add(owner, "Agent@claw.example", now, quota_bytes=1000)
    with pytest.raises(Conflict):
        await inboxes.add(owner, "agent@claw.example", now)
    await inboxes.set_quota(owner, "agent@CLAW.example", 2000)
    listed = (await api.get("/api/v1/inboxes", key=second)).json["inboxes"]
    assert [(i["address"], i["storage_quota_bytes"]) for i in listed] == [(inbox.address, "2000")]
    credential = await api.inbox(second, "agent@claw.example")
    await inboxes.remove(owner, "agent@claw.example", now)
    with pytest.raises(Unauthenticated):
        await api.services.access.inbox(*credential.split(":"))
    for failing in (
        inboxes.remove(owner, "agent@claw.example", now),
        inboxes.set_quota(owner, "agent@claw.example", 1),
        domains.owner("nobody.example"),
        domains.another_token("nobody.example", now),
    ):
        with pytest.raises(NotFound):
            await failing
    # The address is free again, and its old keys stay dead.
    await api.inbox(second, "agent@claw.example")


async def test_spent_creation_keys_are_forgotten_after_a_month(api: Api) -> None:
    token = await api.verified_domain("claw.example")
    await api.post("/api/v1/inbox-creation-keys", key=token)
    now = datetime.now(UTC)
    assert await api.services.inboxes.forget_creation_keys(now + timedelta(days=30)) == 0
    assert await api.services.inboxes.forget_creation_keys(now + timedelta(days=31)) == 1

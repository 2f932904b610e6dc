"""Secrets: shown once to whom they are for, and found neither in the database nor in the log."""

from __future__ import annotations

import json

import asyncpg

from tests.support.house import furnished_house


async def test_keys_are_kept_as_hashes_and_never_logged(database_url: str) -> None:
    async with furnished_house(database_url, {"server": {"log_level": "debug"}}) as house:
        domain = await house.domain("secret.example")
        inbox = await domain.inbox("agent")
        made = await house.daemon.post("/api/v1/inbox-creation-keys", domain.token)
        secrets = [domain.token, inbox.key.rpartition(":")[2], made["inbox_creation_key"]]
        await house.daemon.get("/api/v1/emails", inbox.key)
        for wrong in (inbox.key[:-1], domain.token[:-1]):
            async with house.daemon.request("GET", "/api/v1/emails", key=wrong) as response:
                assert response.status == 401
        connection = await asyncpg.connect(database_url)
        try:
            tables = await connection.fetch(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            )
            stored = ""
            for (table,) in tables:
                stored += "\n".join(row[0] for row in await connection.fetch(f'SELECT t::text FROM "{table}" t'))
        finally:
            await connection.close()
        logged = json.dumps(house.daemon.log)
    assert "secret.example" in stored
    assert "secret.example" in logged
    for secret in secrets:
        assert len(secret) > 40
        for shown in (secret, secret[12:-1], secret.partition("_")[2]):
            assert shown not in stored
            assert shown not in logged
    assert "PRIVATE KEY" not in stored
    assert "$argon2id$" in stored

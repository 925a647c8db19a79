"""asyncpg: binary everywhere, a cache of named statements, type introspection, portals with row limits, COPY, pools."""

import asyncio
import datetime
import decimal
import io
import json
import uuid

import asyncpg
from checks import MD5_URL, SCRAM_URL, URL, check, equal, run


async def connect(url=URL, **options):
    return await asyncpg.connect(url, **options)


@check("parameter types")
async def _():
    connection = await connect()
    values = [
        ("int4", 7),
        ("int8", 2**40),
        ("float8", 1.5),
        ("numeric", decimal.Decimal("12.340")),
        ("text", "naïve 'text' \\ 😀"),
        ("bool", True),
        ("bytea", b"\x00\x01\xff"),
        ("date", datetime.date(2024, 2, 29)),
        ("timestamptz", datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.timezone.utc)),
        ("interval", datetime.timedelta(days=3, seconds=5)),
        ("uuid", uuid.UUID("12345678-1234-5678-1234-567812345678")),
        ("int4[]", [1, 2, 3]),
        ("text[]", ["a", None, 'b"c']),
        ("int4[][]", [[1, 2], [3, 4]]),
        ("point", asyncpg.Point(1, 2)),
        ("int4range", asyncpg.Range(1, 5)),
        ("jsonb", '{"a": 1}'),
        ("int4", None),
    ]
    for type, value in values:
        equal(await connection.fetchval(f"select $1::{type}", value), value)
    await connection.close()


@check("types made by the user")
async def _():
    connection = await connect()
    await connection.execute("drop type if exists compat_mood, compat_pair cascade")
    await connection.execute("create type compat_mood as enum ('sad', 'glad')")
    await connection.execute("create type compat_pair as (mood compat_mood, n int)")
    row = await connection.fetchval("select row('glad', 5)::compat_pair")
    equal(tuple(row), ("glad", 5))
    equal(await connection.fetchval("select $1::compat_mood[]", ["sad", "glad"]), ["sad", "glad"])
    await connection.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    equal(await connection.fetchval("select $1::json", {"a": [1]}), {"a": [1]})
    await connection.execute("drop type compat_pair, compat_mood")
    await connection.close()


@check("prepared statements")
async def _():
    connection = await connect(statement_cache_size=10)
    for round in range(3):
        for column in range(30):
            equal(await connection.fetchval(f"select $1::int + {column}", round), round + column)
    statements = [await connection.prepare(f"select $1::text || '{i}'") for i in range(20)]
    for i, statement in enumerate(statements):
        equal(await statement.fetchval("x"), f"x{i}")
    equal(len(statements[0].get_parameters()), 1)
    await connection.close()


@check("prepared statement after a schema change")
async def _():
    connection, other = await connect(), await connect()
    await connection.execute("drop table if exists compat_shifting")
    await connection.execute("create table compat_shifting (a int)")
    equal(await connection.fetch("select * from compat_shifting"), [])
    await other.execute("alter table compat_shifting add b text")
    equal(await connection.fetch("select * from compat_shifting"), [])
    await other.execute("alter table compat_shifting drop a")
    await other.execute("insert into compat_shifting values ('x')")
    equal([tuple(row) for row in await connection.fetch("select * from compat_shifting")], [("x",)])
    await connection.execute("drop table compat_shifting")
    await connection.close()
    await other.close()


@check("without a statement cache")
async def _():
    connection = await connect(statement_cache_size=0)
    for i in range(10):
        equal(await connection.fetchval("select $1::int", i), i)
    await connection.close()


@check("executemany in batches")
async def _():
    connection = await connect()
    await connection.execute("create temp table batch (id int, text text)")
    rows = [(i, f"row {i}") for i in range(5000)]
    await connection.executemany("insert into batch values ($1, $2)", rows)
    equal(await connection.fetchval("select count(*) from batch"), 5000)
    try:
        await connection.executemany("insert into batch values ($1, 10 / $1::int)", [(1,), (0,), (2,)])
    except asyncpg.PostgresError:
        pass
    equal(await connection.fetchval("select count(*) from batch"), 5000)
    await connection.close()


@check("copy text")
async def _():
    connection = await connect()
    await connection.execute("create temp table copied (id int, text text)")
    data = b"".join(f"{i}\tline {i}\n".encode() for i in range(20000))
    equal(await connection.copy_to_table("copied", source=io.BytesIO(data)), "COPY 20000")
    out = io.BytesIO()
    equal(await connection.copy_from_query("select * from copied where id < $1", 20000, output=out), "COPY 20000")
    equal(out.getvalue(), data)
    await connection.close()


@check("copy binary")
async def _():
    connection = await connect()
    await connection.execute("create temp table copied (id int, text text)")
    rows = [(i, None if i % 7 == 0 else f"line {i}") for i in range(20000)]
    equal(await connection.copy_records_to_table("copied", records=rows), "COPY 20000")
    equal([tuple(row) for row in await connection.fetch("select * from copied")], rows)
    await connection.close()


@check("listen and notify")
async def _():
    listener, speaker = await connect(), await connect()
    heard = asyncio.Queue()
    await listener.add_listener("compat_asyncpg", lambda *args: heard.put_nowait(args[3]))
    for i in range(3):
        await speaker.execute("select pg_notify('compat_asyncpg', $1)", f"message {i}")
    equal([await asyncio.wait_for(heard.get(), 10) for _ in range(3)], ["message 0", "message 1", "message 2"])
    await listener.close()
    await speaker.close()


@check("cursor with row limits")
async def _():
    connection = await connect()
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("select i from generate_series(1, $1::int) i", 1000, prefetch=33):
            total += row[0]
        equal(total, 500500)
        cursor = await connection.cursor("select i from generate_series(1, 10) i")
        equal([row[0] for row in await cursor.fetch(3)], [1, 2, 3])
        await cursor.forward(2)
        equal((await cursor.fetchrow())[0], 6)
        other = await connection.cursor("select 'other'")
        equal(await other.fetchrow(), ("other",))
        equal((await cursor.fetchrow())[0], 7)
    await connection.close()


@check("cancel")
async def _():
    connection = await connect()
    for _ in range(3):
        try:
            await connection.fetch("select pg_sleep(20)", timeout=0.2)
        except asyncio.TimeoutError:
            equal(await connection.fetchval("select 5"), 5)
        else:
            raise AssertionError("nothing was cancelled")
    await connection.close()


@check("transactions and savepoints")
async def _():
    connection = await connect()
    await connection.execute("create temp table steps (n int)")
    async with connection.transaction(isolation="serializable", readonly=False, deferrable=True):
        equal(await connection.fetchval("show transaction_isolation"), "serializable")
        await connection.execute("insert into steps values (1)")
        try:
            async with connection.transaction():
                await connection.execute("insert into steps values (2)")
                await connection.execute("select 1 / 0")
        except asyncpg.DivisionByZeroError:
            pass
        equal(await connection.fetchval("select sum(n) from steps"), 1)
    equal(connection.is_in_transaction(), False)
    await connection.close()


@check("settings and search path")
async def _():
    connection = await connect()
    await connection.execute("create schema if not exists compat_asyncpg")
    await connection.execute("set search_path to compat_asyncpg; set timezone to 'Asia/Tokyo'")
    equal(connection.get_settings().TimeZone, "Asia/Tokyo")
    for _ in range(8):
        equal(await connection.fetchval("select current_schema()"), "compat_asyncpg")
    await connection.reset()
    equal(await connection.fetchval("select current_schema()"), "public")
    await connection.close()


@check("startup options")
async def _():
    settings = {"statement_timeout": "54321", "search_path": "pg_catalog", "application_name": "compat"}
    connection = await connect(server_settings=settings)
    equal(await connection.fetchval("show statement_timeout"), "54321ms")
    equal(await connection.fetchval("show search_path"), "pg_catalog")
    await connection.execute("reset all")
    equal(await connection.fetchval("show statement_timeout"), "54321ms")
    await connection.close()


@check("temporary tables")
async def _():
    connection = await connect()
    await connection.execute("create temp table mine (n int)")
    for i in range(10):
        await connection.execute("insert into mine values ($1)", i)
    equal(await connection.fetchval("select count(*) from mine"), 10)
    await connection.close()


@check("advisory locks")
async def _():
    holder, other = await connect(), await connect()
    await holder.execute("select pg_advisory_lock(4713)")
    equal(await other.fetchval("select pg_try_advisory_lock(4713)"), False)
    await holder.execute("select pg_advisory_unlock(4713)")
    equal(await other.fetchval("select pg_try_advisory_lock(4713)"), True)
    await holder.close()
    await other.close()


@check("large values")
async def _():
    connection = await connect()
    value = bytes(range(256)) * 40_000
    equal(await connection.fetchval("select $1::bytea", value), value)
    await connection.close()


@check("reuse after errors")
async def _():
    connection = await connect()
    for i in range(20):
        try:
            await connection.fetchval("select 10 / $1::int", 0)
        except asyncpg.DivisionByZeroError:
            equal(await connection.fetchval("select 10 / $1::int", 1), 10)
    await connection.close()


@check("pool")
async def _():
    async with asyncpg.create_pool(URL, min_size=5, max_size=20) as pool:

        async def work(n):
            for i in range(10):
                async with pool.acquire() as connection:
                    equal(await connection.fetchval("select $1::int", n * 100 + i), n * 100 + i)

        await asyncio.gather(*(work(n) for n in range(60)))


@check("notices")
async def _():
    connection = await connect()
    told = []
    connection.add_log_listener(lambda _, message: told.append(message.message))
    await connection.execute("do $$ begin raise notice 'told %', 42; end $$")
    await connection.execute("select 1")
    equal(told, ["told 42"])
    await connection.close()


@check("scram and md5 login")
async def _():
    for url in (SCRAM_URL, MD5_URL):
        connection = await connect(url)
        assert await connection.fetchval("select current_user::text") in url
        await connection.close()
        try:
            await connect(url, password="wrong")
        except asyncpg.InvalidPasswordError:
            pass
        else:
            raise AssertionError("a wrong password was taken")


run()

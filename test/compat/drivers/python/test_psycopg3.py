"""psycopg 3: the extended protocol, automatic preparation, pipelines, binary results, COPY by rows, async, pools."""

import asyncio
import datetime
import decimal
import ipaddress
import threading
import uuid

import psycopg
import psycopg_pool
from checks import MD5_URL, SCRAM_URL, URL, check, equal, run
from psycopg import errors, pq
from psycopg.types.json import Jsonb
from psycopg.types.range import Int4Range


def connect(url=URL, **options):
    return psycopg.connect(url, **options)


def one(connection, sql, parameters=None, **options):
    return connection.execute(sql, parameters, **options).fetchone()[0]


@check("parameter types")
def _():
    values = [
        7,
        2**40,
        2**70,
        1.5,
        decimal.Decimal("12.340"),
        "naïve 'text' \\ 😀",
        True,
        b"\x00\x01\xff",
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.timezone.utc),
        datetime.timedelta(days=3, seconds=5),
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        ipaddress.ip_address("10.1.2.3"),
        [1, 2, 3],
        [[1, 2], [3, 4]],
        Int4Range(1, 5),
    ]
    with connect() as connection:
        for binary in (False, True):
            for value in values:
                equal(connection.execute("select %s", (value,), binary=binary).fetchone()[0], value)
                equal(connection.execute("select %b", (value,), binary=binary).fetchone()[0], value)
            equal(connection.execute("select %s", (Jsonb({"a": [1, None]}),), binary=binary).fetchone()[0], {"a": [1, None]})
            texts = ["a", None, 'b"c']
            equal(connection.execute("select %s::text[]", (texts,), binary=binary).fetchone()[0], texts)
            equal(connection.execute("select %s::int", (None,), binary=binary).fetchone()[0], None)


@check("prepared statements")
def _():
    with connect(autocommit=True, prepare_threshold=2) as connection:
        connection.prepared_max = 5
        for round in range(4):
            for column in range(12):
                for _ in range(3):
                    equal(one(connection, f"select %s + {column}", (round,)), round + column)
        connection.execute("deallocate all")
        for i in range(10):
            equal(one(connection, "select %s::text", (str(i),), prepare=True), str(i))


@check("prepared statement after a schema change")
def _():
    with connect(autocommit=True, prepare_threshold=0) as connection:
        connection.execute("drop table if exists compat_changing")
        connection.execute("create table compat_changing (a int)")
        connection.execute("insert into compat_changing values (1)")
        equal(connection.execute("select a from compat_changing where a = %s", (1,)).fetchall(), [(1,)])
        connection.execute("alter table compat_changing add b int default 2")
        equal(connection.execute("select a from compat_changing where a = %s", (1,)).fetchall(), [(1,)])
        connection.execute("drop table compat_changing")


@check("pipeline")
def _():
    with connect(autocommit=True) as connection:
        with connection.pipeline() as pipeline:
            cursors = [connection.execute("select %s", (i,)) for i in range(500)]
            pipeline.sync()
            more = [connection.execute("select %s", (str(i),)) for i in range(50)]
        equal([cursor.fetchone()[0] for cursor in cursors], list(range(500)))
        equal([cursor.fetchone()[0] for cursor in more], [str(i) for i in range(50)])


@check("pipeline with an error")
def _():
    with connect(autocommit=True) as connection:
        try:
            with connection.pipeline() as pipeline:
                first = connection.execute("select 1")
                connection.execute("select 1 / %s", (0,))
                connection.execute("select 2")
                pipeline.sync()
        except errors.DivisionByZero:
            pass
        else:
            raise AssertionError("no error came")
        with connection.pipeline() as pipeline:
            last = connection.execute("select 3")
            pipeline.sync()
            equal(last.fetchone()[0], 3)
        equal(one(connection, "select 4"), 4)
        equal(first.fetchone()[0], 1)


@check("executemany in batches")
def _():
    with connect() as connection:
        connection.execute("create temp table batch (id int, text text)")
        with connection.cursor() as cursor:
            cursor.executemany("insert into batch values (%s, %s)", [(i, f"row {i}") for i in range(2000)])
            equal(cursor.rowcount, 2000)
            cursor.executemany("insert into batch values (%s, %s) returning id", [(1, "a"), (2, "b")], returning=True)
            equal(cursor.fetchone(), (1,))
            cursor.nextset()
            equal(cursor.fetchone(), (2,))


@check("copy text")
def _():
    with connect() as connection:
        connection.execute("create temp table copied (id int, text text)")
        rows = [(i, f"line {i}") for i in range(20000)]
        with connection.cursor().copy("copy copied from stdin") as copy:
            for row in rows:
                copy.write_row(row)
        with connection.cursor().copy("copy (select * from copied order by id) to stdout") as copy:
            copy.set_types(["int4", "text"])
            equal(list(copy.rows()), rows)


@check("copy binary")
def _():
    with connect() as connection:
        connection.execute("create temp table copied (id int8, text text, at timestamptz)")
        at = datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc)
        rows = [(i, None if i % 7 == 0 else f"line {i}", at) for i in range(20000)]
        with connection.cursor().copy("copy copied from stdin (format binary)") as copy:
            copy.set_types(["int8", "text", "timestamptz"])
            for row in rows:
                copy.write_row(row)
        with connection.cursor().copy("copy (select * from copied order by id) to stdout (format binary)") as copy:
            copy.set_types(["int8", "text", "timestamptz"])
            equal(list(copy.rows()), rows)


@check("copy given up")
def _():
    with connect(autocommit=True) as connection:
        connection.execute("create temp table copied (id int)")
        try:
            with connection.cursor().copy("copy copied from stdin") as copy:
                copy.write("1\n")
                raise ValueError("enough")
        except ValueError:
            equal(one(connection, "select count(*) from copied"), 0)
        try:
            with connection.cursor().copy("copy (select generate_series(1, 1000000)) to stdout") as copy:
                for _ in copy:
                    raise ValueError("enough")
        except ValueError:
            equal(one(connection, "select 6"), 6)


@check("listen and notify")
def _():
    with connect(autocommit=True) as listener, connect(autocommit=True) as speaker:
        listener.execute("listen compat_psycopg3")
        for i in range(3):
            speaker.execute("select pg_notify('compat_psycopg3', %s)", (f"message {i}",))
        payloads = [each.payload for each in listener.notifies(timeout=10, stop_after=3)]
        equal(payloads, ["message 0", "message 1", "message 2"])
        listener.execute("unlisten *")
        equal(one(listener, "select count(*) from pg_listening_channels()"), 0)


@check("cursor")
def _():
    with connect() as connection:
        with connection.cursor(name="walker", scrollable=True) as cursor:
            cursor.execute("select i from generate_series(1, %s) i", (1000,))
            cursor.itersize = 70
            equal(sum(row[0] for row in cursor), 500500)
            cursor.scroll(10, mode="absolute")
            equal(cursor.fetchmany(2), [(11,), (12,)])
        with connection.cursor(name="binary") as cursor:
            cursor.execute("select 5, 'x'", binary=True)
            equal(cursor.fetchall(), [(5, "x")])


@check("cursor with hold")
def _():
    with connect() as connection:
        with connection.cursor(name="held", withhold=True) as cursor:
            cursor.execute("select i from generate_series(1, 10) i")
            connection.commit()
            equal(cursor.fetchmany(4), [(1,), (2,), (3,), (4,)])
            connection.commit()
            equal(cursor.fetchone(), (5,))


@check("rows one by one")
def _():
    with connect() as connection, connection.cursor() as cursor:
        rows = cursor.stream("select i, repeat('x', 100) from generate_series(1, %s) i", (50000,))
        equal(sum(row[0] for row in rows), 50000 * 50001 // 2)
        equal(sum(row[0] for row in cursor.stream("select i from generate_series(1, 1000) i", size=50)), 500500)


@check("cancel")
def _():
    with connect(autocommit=True) as connection:
        for cancel in (connection.cancel, connection.cancel_safe):
            timer = threading.Timer(0.3, cancel)
            timer.start()
            try:
                connection.execute("select pg_sleep(20)")
            except errors.QueryCanceled:
                pass
            else:
                raise AssertionError("nothing was cancelled")
            timer.join()
            equal(one(connection, "select 5"), 5)


@check("transactions and savepoints")
def _():
    with connect(autocommit=True) as connection:
        connection.execute("create temp table steps (n int)")
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with connection.transaction():
            equal(one(connection, "show transaction_isolation"), "repeatable read")
            connection.execute("insert into steps values (1)")
            try:
                with connection.transaction():
                    connection.execute("insert into steps values (2)")
                    connection.execute("select 1 / 0")
            except errors.DivisionByZero:
                equal(connection.info.transaction_status, pq.TransactionStatus.INTRANS)
            with connection.transaction(force_rollback=True):
                connection.execute("insert into steps values (4)")
        equal(one(connection, "select sum(n) from steps"), 1)
        equal(connection.info.transaction_status, pq.TransactionStatus.IDLE)


@check("settings and search path")
def _():
    with connect(autocommit=True) as connection:
        connection.execute("create schema if not exists compat_psycopg3")
        connection.execute("set search_path to compat_psycopg3")
        connection.execute("select set_config('work_mem', '9MB', false)")
        connection.execute("set timezone to 'Asia/Tokyo'")
        equal(connection.info.timezone.key, "Asia/Tokyo")
        for _ in range(8):
            equal(one(connection, "select current_schema()"), "compat_psycopg3")
            equal(one(connection, "show work_mem"), "9MB")
        connection.execute("reset all")
        equal(one(connection, "select current_schema()"), "public")
        connection.execute("set role pg_monitor")
        equal(one(connection, "select current_user"), "pg_monitor")
        connection.execute("reset role")
        equal(one(connection, "select current_user"), "postgres")


@check("startup options")
def _():
    options = r"-c statement_timeout=54321 -c application_name=ignored -csearch_path=\ pg_catalog -c work_mem=7MB"
    with connect(options=options, application_name="compat") as connection:
        equal(one(connection, "show statement_timeout"), "54321ms")
        equal(one(connection, "show search_path").strip(), "pg_catalog")
        equal(one(connection, "show application_name"), "compat")
        equal(connection.info.parameter_status("application_name"), "compat")
        connection.rollback()
        connection.execute("set statement_timeout to 1000")
        connection.execute("reset statement_timeout")
        connection.commit()
        equal(one(connection, "show statement_timeout"), "54321ms")


@check("temporary tables")
def _():
    with connect(autocommit=True) as connection:
        connection.execute("create temp table mine (n int)")
        for i in range(10):
            connection.execute("insert into mine values (%s)", (i,))
        equal(one(connection, "select count(*) from mine"), 10)
        connection.execute("discard temp")
        equal(one(connection, "select to_regclass('mine')"), None)


@check("advisory locks")
def _():
    with connect(autocommit=True) as holder, connect(autocommit=True) as other:
        holder.execute("select pg_advisory_lock(4712)")
        equal(one(other, "select pg_try_advisory_lock(4712)"), False)
        holder.execute("select pg_advisory_unlock_all()")
        equal(one(other, "select pg_try_advisory_lock(4712)"), True)


@check("large values")
def _():
    with connect() as connection:
        value = bytes(range(256)) * 40_000
        equal(one(connection, "select %s", (value,)), value)
        equal(one(connection, "select %b", (value,), binary=True), value)


@check("reuse after errors")
def _():
    with connect(autocommit=True) as connection:
        for i in range(20):
            try:
                connection.execute("select %s::int", ("nonsense",), prepare=i % 2 == 0)
            except errors.InvalidTextRepresentation:
                equal(one(connection, "select %s::int", (i,), prepare=i % 2 == 0), i)


@check("pool")
def _():
    with psycopg_pool.ConnectionPool(URL, min_size=2, max_size=20) as pool:
        results = []

        def work(n):
            for i in range(10):
                with pool.connection() as connection:
                    results.append(one(connection, "select %s", (n * 100 + i,)) == n * 100 + i)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        equal((len(results), all(results)), (300, True))


@check("many connections")
async def _():
    async def work(n):
        async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection:
            for i in range(5):
                cursor = await connection.execute("select %s::int", (n * 100 + i,))
                equal((await cursor.fetchone())[0], n * 100 + i)

    await asyncio.gather(*(work(n) for n in range(60)))


@check("task cancelled")
async def _():
    async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection:
        try:
            await asyncio.wait_for(connection.execute("select pg_sleep(20)"), 0.5)
        except asyncio.TimeoutError:
            pass
        cursor = await connection.execute("select 9")
        equal(await cursor.fetchone(), (9,))


@check("notices and several results")
def _():
    with connect(autocommit=True) as connection:
        told = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
        cursor = connection.execute("select 1; do $$ begin raise notice 'told %', 42; end $$; select 2, 3")
        equal(told, ["told 42"])
        equal(cursor.fetchall(), [(1,)])
        cursor.nextset()
        cursor.nextset()
        equal(cursor.fetchall(), [(2, 3)])


@check("scram and md5 login")
def _():
    for url in (SCRAM_URL, MD5_URL):
        with connect(url) as connection:
            assert one(connection, "select current_user") in url
        try:
            connect(url, password="wrong")
        except psycopg.OperationalError as error:
            assert "password authentication failed" in str(error), error
        else:
            raise AssertionError("a wrong password was taken")


run()

"""psycopg2: the simple protocol, COPY, server-side cursors, large objects, notifications, polling connections."""

import datetime
import decimal
import io
import select
import threading
import uuid

import psycopg2
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool
from checks import MD5_URL, SCRAM_URL, URL, check, equal, run


def connect(url=URL, **options):
    return psycopg2.connect(url, **options)


def one(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchone()[0]


@check("parameter types")
def _():
    psycopg2.extras.register_uuid()
    values = [
        7,
        2**40,
        1.5,
        decimal.Decimal("12.340"),
        "naïve 'text' \\ 😀",
        True,
        None,
        datetime.date(2024, 2, 29),
        datetime.datetime(2024, 2, 29, 12, 30, 1, 5, tzinfo=datetime.timezone.utc),
        datetime.timedelta(days=3, seconds=5),
        uuid.UUID("12345678-1234-5678-1234-567812345678"),
        [1, 2, 3],
        ["a", None, 'b"c'],
    ]
    with connect() as connection, connection.cursor() as cursor:
        for value in values:
            cursor.execute("select %s", (value,))
            equal(cursor.fetchone()[0], value)
        cursor.execute("select %s::bytea", (b"\x00\x01\xff",))
        equal(bytes(cursor.fetchone()[0]), b"\x00\x01\xff")
        cursor.execute("select %s::jsonb", (psycopg2.extras.Json({"a": [1, None]}),))
        equal(cursor.fetchone()[0], {"a": [1, None]})


@check("many rows in one statement")
def _():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("create temp table many (id int, text text)")
        rows = [(i, f"row {i}") for i in range(5000)]
        psycopg2.extras.execute_values(cursor, "insert into many values %s", rows, page_size=1000)
        psycopg2.extras.execute_batch(cursor, "insert into many values (%s, %s)", rows, page_size=500)
        equal(one(connection, "select count(*) from many"), 10000)


@check("copy text")
def _():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("create temp table copied (id int, text text)")
        lines = "".join(f"{i}\tline {i}\n" for i in range(20000))
        cursor.copy_from(io.StringIO(lines), "copied")
        out = io.StringIO()
        cursor.copy_to(out, "copied")
        equal(out.getvalue(), lines)
        try:
            cursor.copy_expert("copy copied from stdin", io.StringIO("1\tgood\nbad\tbad\n"))
        except psycopg2.errors.InvalidTextRepresentation:
            connection.rollback()
        else:
            raise AssertionError("a bad line was taken")
        equal(one(connection, "select 1"), 1)


@check("copy binary")
def _():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("create temp table source as select i, md5(i::text) t from generate_series(1, 20000) i")
        cursor.execute("create temp table target (like source)")
        data = io.BytesIO()
        cursor.copy_expert("copy source to stdout (format binary)", data)
        data.seek(0)
        cursor.copy_expert("copy target from stdin (format binary)", data)
        equal(one(connection, "select count(*) from source join target using (i, t)"), 20000)


@check("large objects")
def _():
    with connect() as connection:
        big = connection.lobject(0, "wb")
        oid, data = big.oid, bytes(range(256)) * 8000
        big.write(data)
        big.close()
        back = connection.lobject(oid, "rb")
        equal(back.read(), data)
        back.seek(1000)
        equal(back.read(4), data[1000:1004])
        back.close()
        connection.lobject(oid).unlink()


@check("listen and notify")
def _():
    listener, speaker = connect(), connect()
    listener.autocommit = speaker.autocommit = True
    with listener.cursor() as cursor:
        cursor.execute("listen compat_psycopg2")
    with speaker.cursor() as cursor:
        for i in range(3):
            cursor.execute("select pg_notify('compat_psycopg2', %s)", (f"message {i}",))
    while len(listener.notifies) < 3:
        assert select.select([listener], [], [], 10)[0], "no notification came"
        listener.poll()
    equal([each.payload for each in listener.notifies], ["message 0", "message 1", "message 2"])
    listener.close()
    speaker.close()


@check("cursor")
def _():
    with connect() as connection, connection.cursor(name="walker", scrollable=True) as cursor:
        cursor.itersize = 100
        cursor.execute("select i from generate_series(1, 1000) i")
        equal(sum(row[0] for row in cursor), 500500)
        cursor.scroll(0, mode="absolute")
        equal(cursor.fetchmany(3), [(1,), (2,), (3,)])
        cursor.scroll(-2)
        equal(cursor.fetchone(), (2,))


@check("cursor with hold")
def _():
    connection = connect()
    cursor = connection.cursor(name="held", withhold=True)
    cursor.execute("select i from generate_series(1, 10) i")
    connection.commit()
    equal(cursor.fetchmany(4), [(1,), (2,), (3,), (4,)])
    connection.commit()
    equal(cursor.fetchone(), (5,))
    cursor.close()
    connection.commit()
    connection.close()


@check("cancel")
def _():
    connection = connect()
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    try:
        one(connection, "select pg_sleep(20)")
    except psycopg2.errors.QueryCanceled:
        connection.rollback()
    else:
        raise AssertionError("nothing was cancelled")
    timer.join()
    equal(one(connection, "select 5"), 5)
    equal(connection.info.backend_pid > 0, True)
    connection.close()


@check("transactions and savepoints")
def _():
    connection = connect()
    connection.set_session(isolation_level="SERIALIZABLE", readonly=False)
    with connection.cursor() as cursor:
        equal(one(connection, "show transaction_isolation"), "serializable")
        cursor.execute("create temp table steps (n int)")
        cursor.execute("insert into steps values (1)")
        cursor.execute("savepoint s")
        try:
            cursor.execute("insert into steps values (1 / 0)")
        except psycopg2.errors.DivisionByZero:
            equal(connection.info.transaction_status, psycopg2.extensions.TRANSACTION_STATUS_INERROR)
            cursor.execute("rollback to savepoint s")
        cursor.execute("insert into steps values (2)")
        connection.commit()
        equal(one(connection, "select sum(n) from steps"), 3)
        equal(connection.info.transaction_status, psycopg2.extensions.TRANSACTION_STATUS_INTRANS)
    connection.close()


@check("two-phase commit refused as the server does")
def _():
    connection = connect()
    connection.tpc_begin(connection.xid(42, "global", "branch"))
    one(connection, "select 1")
    try:
        connection.tpc_prepare()
    except psycopg2.Error as error:
        equal(error.pgcode, "55000")
    connection.close()


@check("settings and search path")
def _():
    connection = connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("create schema if not exists compat_psycopg2")
        cursor.execute("set search_path to compat_psycopg2; set work_mem = '9MB'")
        cursor.execute("set datestyle to 'SQL, DMY'")
        equal(connection.get_parameter_status("DateStyle"), "SQL, DMY")
        cursor.execute("set client_encoding to latin1")
        equal(connection.get_parameter_status("client_encoding"), "LATIN1")
        for _ in range(5):
            equal(one(connection, "select current_schema()"), "compat_psycopg2")
            equal(one(connection, "show work_mem"), "9MB")
        connection.autocommit = False
        cursor.execute("set local work_mem = '11MB'")
        equal(one(connection, "show work_mem"), "11MB")
        connection.rollback()
        equal(one(connection, "show work_mem"), "9MB")
        connection.rollback()
    connection.close()
    with connect() as other:
        equal(one(other, "select current_schema()"), "public")


@check("startup options")
def _():
    options = "-c statement_timeout=54321 -c search_path=pg_catalog,public -c application_name=ignored"
    connection = connect(options=options, application_name="compat", client_encoding="utf8")
    equal(one(connection, "show statement_timeout"), "54321ms")
    equal(one(connection, "show search_path"), "pg_catalog,public")
    equal(one(connection, "show application_name"), "compat")
    connection.close()


@check("temporary tables")
def _():
    connection = connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("create temp table mine (n int)")
        for i in range(10):
            cursor.execute("insert into mine values (%s)", (i,))
        equal(one(connection, "select count(*) from mine"), 10)
    connection.close()
    with connect() as other:
        equal(one(other, "select to_regclass('pg_temp.mine')"), None)


@check("advisory locks")
def _():
    holder, other = connect(), connect()
    holder.autocommit = other.autocommit = True
    one(holder, "select pg_advisory_lock(4711)")
    equal(one(other, "select pg_try_advisory_lock(4711)"), False)
    equal(one(holder, "select pg_advisory_unlock(4711)"), True)
    equal(one(other, "select pg_try_advisory_lock(4711)"), True)
    other.close()
    holder.close()


@check("large values")
def _():
    with connect() as connection:
        value = "0123456789" * 1_000_000
        equal(one(connection, "select %s", (value,)), value)
        equal(len(one(connection, "select repeat('x', 10000000)")), 10_000_000)


@check("many connections")
def _():
    pool = psycopg2.pool.ThreadedConnectionPool(0, 40, URL)
    results = []

    def work(n):
        for i in range(10):
            connection = pool.getconn()
            results.append(one(connection, "select %s", (n * 100 + i,)) == n * 100 + i)
            connection.commit()
            pool.putconn(connection)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pool.closeall()
    equal((len(results), all(results)), (400, True))


@check("reuse after errors")
def _():
    connection = connect()
    connection.autocommit = True
    for i in range(20):
        try:
            one(connection, "select nonsense")
        except psycopg2.errors.UndefinedColumn:
            equal(one(connection, "select %s", (i,)), i)
    connection.close()


@check("notices")
def _():
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("do $$ begin raise notice 'told %', 42; end $$")
        equal(connection.notices, ["NOTICE:  told 42\n"])


@check("asynchronous connection")
def _():
    connection = psycopg2.connect(URL, async_=1)

    def wait():
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            read = [connection] if state == psycopg2.extensions.POLL_READ else []
            write = [connection] if state == psycopg2.extensions.POLL_WRITE else []
            assert any(select.select(read, write, [], 10)), "nothing happened"

    wait()
    cursor = connection.cursor()
    cursor.execute("select pg_sleep(0.1), 8")
    wait()
    equal(cursor.fetchone()[1], 8)
    connection.close()


@check("replication connection")
def _():
    connection = connect(connection_factory=psycopg2.extras.LogicalReplicationConnection)
    cursor = connection.cursor()
    cursor.execute("IDENTIFY_SYSTEM")
    equal(len(cursor.fetchone()), 4)
    connection.close()


@check("scram and md5 login")
def _():
    for url in (SCRAM_URL, MD5_URL):
        with connect(url) as connection:
            assert one(connection, "select current_user") in url
        try:
            connect(url, password="wrong")
        except psycopg2.OperationalError as error:
            assert "password authentication failed" in str(error), error
        else:
            raise AssertionError("a wrong password was taken")


run()

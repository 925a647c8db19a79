import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.StringReader;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Timer;
import java.util.TimerTask;
import java.util.UUID;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyIn;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** pgjdbc: statements that become named after some executions, portals with row limits, batches, COPY, updatable rows. */
final class Main {
    private static final String[] QUERY_MODES = {"simple", "extended", "extendedForPrepared", "extendedCacheEverything"};

    public static void main(String[] urls) {
        Checks.url = urls[0];
        Checks.scramUrl = urls[1];
        Checks.md5Url = urls[2];
        Checks.check("parameter types", Main::parameterTypes);
        Checks.check("query modes", Main::queryModes);
        Checks.check("prepared statements", Main::preparedStatements);
        Checks.check("prepared statement after a schema change", Main::schemaChange);
        Checks.check("batches", Main::batches);
        Checks.check("rows by fetch size", Main::fetchSize);
        Checks.check("copy text", Main::copyText);
        Checks.check("copy binary", Main::copyBinary);
        Checks.check("large objects", Main::largeObjects);
        Checks.check("listen and notify", Main::listenNotify);
        Checks.check("cursor with hold", Main::heldCursor);
        Checks.check("updatable rows", Main::updatableRows);
        Checks.check("functions and cursors they return", Main::functions);
        Checks.check("cancel", Main::cancel);
        Checks.check("query timeout", Main::queryTimeout);
        Checks.check("transactions and savepoints", Main::transactions);
        Checks.check("savepoint before each statement", Main::autosave);
        Checks.check("settings and search path", Main::settings);
        Checks.check("startup options", Main::startupOptions);
        Checks.check("temporary tables", Main::temporaryTables);
        Checks.check("advisory locks", Main::advisoryLocks);
        Checks.check("metadata", Main::metadata);
        Checks.check("large values", Main::largeValues);
        Checks.check("many connections", Main::manyConnections);
        Checks.check("reuse after errors", Main::reuseAfterErrors);
        Checks.check("warnings and generated keys", Main::warningsAndKeys);
        Checks.check("hosts by role", Main::hostsByRole);
        Checks.check("scram and md5 login", Main::logins);
        // A check that failed may have left a thread behind.
        System.exit(0);
    }

    private static void parameterTypes() throws Exception {
        // With a binary threshold of 1 values are binary from the second execution on.
        try (Connection connection = Checks.connect("prepareThreshold", "1")) {
            UUID uuid = UUID.fromString("12345678-1234-5678-1234-567812345678");
            Object[][] values = {
                {"int4", 7},
                {"int8", 1L << 40},
                {"float8", 1.5},
                {"numeric", new BigDecimal("12.340")},
                {"text", "naïve 'text' \\ 😀"},
                {"bool", true},
                {"bytea", new byte[] {0, 1, -1}},
                {"uuid", uuid},
                {"date", LocalDate.of(2024, 2, 29)},
                {"timestamptz", OffsetDateTime.parse("2024-02-29T12:30:01.000005Z")},
            };
            for (Object[] pair : values) {
                try (PreparedStatement statement = connection.prepareStatement("select ?::" + pair[0])) {
                    for (int round = 0; round < 4; round++) {
                        statement.setObject(1, pair[1]);
                        try (ResultSet rows = statement.executeQuery()) {
                            rows.next();
                            Checks.equal(rows.getObject(1, pair[1].getClass()), pair[1]);
                        }
                        statement.setNull(1, Types.NULL);
                        try (ResultSet rows = statement.executeQuery()) {
                            rows.next();
                            Checks.equal(rows.getObject(1), null);
                        }
                    }
                }
            }
            try (PreparedStatement statement = connection.prepareStatement("select ?::int4[], ?::text[]")) {
                statement.setArray(1, connection.createArrayOf("int4", new Integer[] {1, 2, 3}));
                statement.setArray(2, connection.createArrayOf("text", new String[] {"a", null, "b\"c"}));
                for (int round = 0; round < 3; round++) {
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        Array texts = rows.getArray(2);
                        Checks.equal(rows.getArray(1).getArray(), new Integer[] {1, 2, 3});
                        Checks.equal(texts.getArray(), new String[] {"a", null, "b\"c"});
                    }
                }
            }
        }
    }

    private static void queryModes() throws Exception {
        for (String mode : QUERY_MODES) {
            try (Connection connection = Checks.connect("preferQueryMode", mode, "prepareThreshold", "3")) {
                for (int i = 0; i < 10; i++) {
                    Checks.equal(sum(connection, i, 0), i);
                    Checks.equal(Checks.one(connection, "select " + i), String.valueOf(i));
                }
                Checks.equal(Checks.one(connection, "create temp table t (n int); insert into t values (1), (2)"), null);
                Checks.equal(Checks.one(connection, "select sum(n) from t"), "3");
            }
        }
    }

    private static int sum(Connection connection, int a, int b) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("select ?::int + " + b)) {
            statement.setInt(1, a);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                return rows.getInt(1);
            }
        }
    }

    private static void preparedStatements() throws Exception {
        try (Connection connection = Checks.connect("prepareThreshold", "2", "preparedStatementCacheQueries", "8")) {
            for (int round = 0; round < 6; round++) {
                for (int i = 0; i < 20; i++) {
                    for (int times = 0; times < 4; times++) Checks.equal(sum(connection, round, i), round + i);
                }
            }
            Checks.one(connection, "deallocate all");
            Checks.equal(sum(connection, 1, 100), 101);
            Checks.one(connection, "discard all");
            for (int times = 0; times < 4; times++) Checks.equal(sum(connection, 2, 100), 102);
        }
    }

    private static void schemaChange() throws Exception {
        try (Connection connection = Checks.connect("prepareThreshold", "1"); Connection other = Checks.connect()) {
            Checks.one(other, "drop table if exists compat_java; create table compat_java (a int)");
            Checks.one(other, "insert into compat_java values (1)");
            try (PreparedStatement statement = connection.prepareStatement("select * from compat_java")) {
                for (int columns = 1; columns < 4; columns++) {
                    for (int times = 0; times < 3; times++) {
                        try (ResultSet rows = statement.executeQuery()) {
                            rows.next();
                            Checks.equal(rows.getMetaData().getColumnCount(), columns);
                        }
                    }
                    Checks.one(other, "alter table compat_java add c" + columns + " text");
                }
            }
            Checks.one(other, "drop table compat_java");
        }
    }

    private static void batches() throws Exception {
        for (String rewrite : new String[] {"false", "true"}) {
            try (Connection connection = Checks.connect("reWriteBatchedInserts", rewrite)) {
                Checks.one(connection, "create temp table batch (id int primary key, t text)");
                try (PreparedStatement statement = connection.prepareStatement("insert into batch values (?, ?)")) {
                    for (int i = 0; i < 5000; i++) {
                        statement.setInt(1, i);
                        statement.setString(2, "row " + i);
                        statement.addBatch();
                    }
                    Checks.equal(statement.executeBatch().length, 5000);
                    connection.setAutoCommit(false);
                    for (int id : new int[] {6000, 1, 6001}) {
                        statement.setInt(1, id);
                        statement.setString(2, "again");
                        statement.addBatch();
                    }
                    try {
                        statement.executeBatch();
                        throw new AssertionError("a double key was taken");
                    } catch (BatchUpdateException cause) {
                        Checks.equal(cause.getSQLState(), "23505");
                    }
                    connection.rollback();
                }
                try (Statement statement = connection.createStatement()) {
                    for (int i = 0; i < 300; i++) statement.addBatch("update batch set t = 'x' where id = " + i);
                    Checks.equal(Arrays.stream(statement.executeBatch()).sum(), 300);
                }
                Checks.equal(Checks.one(connection, "select count(*) from batch"), "5000");
                connection.rollback();
            }
        }
    }

    private static void fetchSize() throws Exception {
        try (Connection connection = Checks.connect()) {
            connection.setAutoCommit(false);
            try (PreparedStatement outer = connection.prepareStatement("select i from generate_series(1, ?) i");
                    PreparedStatement inner = connection.prepareStatement("select ? * 2")) {
                outer.setFetchSize(33);
                outer.setInt(1, 1000);
                int total = 0;
                try (ResultSet rows = outer.executeQuery()) {
                    while (rows.next()) {
                        inner.setInt(1, rows.getInt(1));
                        try (ResultSet doubled = inner.executeQuery()) {
                            doubled.next();
                            total += doubled.getInt(1);
                        }
                    }
                }
                Checks.equal(total, 1_001_000);
                outer.setMaxRows(10);
                try (ResultSet rows = outer.executeQuery()) {
                    int count = 0;
                    while (rows.next()) count++;
                    Checks.equal(count, 10);
                }
            }
            connection.commit();
        }
    }

    private static void copyText() throws Exception {
        try (Connection connection = Checks.connect()) {
            Checks.one(connection, "create temp table copied (id int, t text)");
            StringBuilder lines = new StringBuilder();
            for (int i = 0; i < 20000; i++) lines.append(i).append("\tline ").append(i).append('\n');
            CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
            Checks.equal(copies.copyIn("copy copied from stdin", new StringReader(lines.toString())), 20000L);
            StringWriter out = new StringWriter();
            copies.copyOut("copy copied to stdout", out);
            Checks.equal(out.toString(), lines.toString());
            Checks.fails("22P02", () -> {
                try {
                    copies.copyIn("copy copied from stdin", new StringReader("bad\tbad\n"));
                } catch (IOException cause) {
                    throw new SQLException(cause);
                }
            });
            CopyIn given = copies.copyIn("copy copied from stdin");
            byte[] line = "1\tx\n".getBytes();
            given.writeToCopy(line, 0, line.length);
            given.cancelCopy();
            Checks.equal(Checks.one(connection, "select count(*) from copied"), "20000");
        }
    }

    private static void copyBinary() throws Exception {
        try (Connection connection = Checks.connect()) {
            Checks.one(connection, "create temp table source as select i, md5(i::text) t from generate_series(1, 20000) i");
            Checks.one(connection, "create temp table target (like source)");
            CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
            ByteArrayOutputStream data = new ByteArrayOutputStream();
            copies.copyOut("copy source to stdout (format binary)", data);
            copies.copyIn("copy target from stdin (format binary)", new ByteArrayInputStream(data.toByteArray()));
            Checks.equal(Checks.one(connection, "select count(*) from source join target using (i, t)"), "20000");
        }
    }

    private static void largeObjects() throws Exception {
        // The driver reads and writes them by function calls of the protocol.
        try (Connection connection = Checks.connect()) {
            connection.setAutoCommit(false);
            LargeObjectManager objects = connection.unwrap(PGConnection.class).getLargeObjectAPI();
            long oid = objects.createLO(LargeObjectManager.READWRITE);
            byte[] data = new byte[1_500_000];
            Arrays.fill(data, (byte) 7);
            try (LargeObject object = objects.open(oid, LargeObjectManager.READWRITE)) {
                object.write(data);
                object.seek(0);
                Checks.equal(object.read(data.length + 5), data);
                Checks.equal(object.size(), data.length);
                object.truncate(10);
                Checks.equal(object.size(), 10);
            }
            objects.delete(oid);
            connection.commit();
        }
    }

    private static void listenNotify() throws Exception {
        try (Connection listener = Checks.connect(); Connection speaker = Checks.connect()) {
            Checks.one(listener, "listen compat_java");
            for (int i = 0; i < 3; i++) Checks.one(speaker, "select pg_notify('compat_java', 'message " + i + "')");
            List<String> heard = new ArrayList<>();
            long deadline = System.nanoTime() + 10_000_000_000L;
            while (heard.size() < 3 && System.nanoTime() < deadline) {
                PGNotification[] told = listener.unwrap(PGConnection.class).getNotifications(500);
                if (told != null) for (PGNotification each : told) heard.add(each.getParameter());
            }
            Checks.equal(heard, List.of("message 0", "message 1", "message 2"));
        }
    }

    private static void heldCursor() throws Exception {
        try (Connection connection = Checks.connect();
                Statement statement = connection.createStatement(
                        ResultSet.TYPE_FORWARD_ONLY, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
            connection.setAutoCommit(false);
            statement.execute("declare held cursor with hold for select i from generate_series(1, 10) i");
            connection.commit();
            Checks.equal(Checks.one(connection, "fetch 1 from held"), "1");
            connection.commit();
            Checks.equal(Checks.one(connection, "fetch 1 from held"), "2");
            connection.commit();
        }
    }

    private static void updatableRows() throws Exception {
        try (Connection connection = Checks.connect();
                Statement statement = connection.createStatement(
                        ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            statement.execute("create temp table changing (id int primary key, t text)");
            statement.execute("insert into changing values (1, 'a'), (2, 'b')");
            try (ResultSet rows = statement.executeQuery("select id, t from changing order by id")) {
                rows.last();
                rows.updateString("t", "changed");
                rows.updateRow();
                rows.moveToInsertRow();
                rows.updateInt("id", 3);
                rows.updateString("t", "new");
                rows.insertRow();
                rows.first();
                rows.deleteRow();
            }
            Checks.equal(Checks.one(connection, "select string_agg(id || t, ',' order by id) from changing"), "2changed,3new");
        }
    }

    private static void functions() throws Exception {
        try (Connection connection = Checks.connect()) {
            Checks.one(connection, "create or replace function pg_temp.walk() returns refcursor language plpgsql as "
                    + "$$ declare c refcursor; begin open c for select generate_series(1, 5); return c; end $$");
            connection.setAutoCommit(false);
            try (CallableStatement call = connection.prepareCall("{? = call pg_temp.walk()}")) {
                call.registerOutParameter(1, Types.REF_CURSOR);
                call.execute();
                int count = 0;
                try (ResultSet rows = (ResultSet) call.getObject(1)) {
                    while (rows.next()) count++;
                }
                Checks.equal(count, 5);
            }
            connection.commit();
        }
    }

    private static void cancel() throws Exception {
        try (Connection connection = Checks.connect(); Statement statement = connection.createStatement()) {
            Timer timer = new Timer(true);
            for (int round = 0; round < 3; round++) {
                timer.schedule(new TimerTask() {
                    @Override
                    public void run() {
                        try {
                            statement.cancel();
                        } catch (SQLException cause) {
                            throw new IllegalStateException(cause);
                        }
                    }
                }, 200);
                Checks.fails("57014", () -> statement.execute("select pg_sleep(20)"));
                Checks.equal(Checks.one(connection, "select 5"), "5");
            }
        }
    }

    private static void queryTimeout() throws Exception {
        try (Connection connection = Checks.connect(); Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            Checks.fails("57014", () -> statement.execute("select pg_sleep(20)"));
            Checks.equal(Checks.one(connection, "select 6"), "6");
            Checks.equal(connection.isValid(5), true);
        }
    }

    private static void transactions() throws Exception {
        try (Connection connection = Checks.connect()) {
            Checks.one(connection, "create temp table steps (n int)");
            connection.setAutoCommit(false);
            connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            Checks.equal(Checks.one(connection, "show transaction_isolation"), "serializable");
            Checks.one(connection, "insert into steps values (1)");
            Savepoint savepoint = connection.setSavepoint("s");
            Checks.fails("22012", () -> Checks.one(connection, "insert into steps values (1 / 0)"));
            Checks.fails("25P02", () -> Checks.one(connection, "select 1"));
            connection.rollback(savepoint);
            Checks.one(connection, "insert into steps values (4)");
            connection.commit();
            connection.setReadOnly(true);
            Checks.fails("25006", () -> Checks.one(connection, "create table compat_never (n int)"));
            connection.rollback();
            Checks.equal(Checks.one(connection, "select sum(n) from steps"), "5");
            connection.commit();
        }
    }

    private static void autosave() throws Exception {
        try (Connection connection = Checks.connect("autosave", "always", "prepareThreshold", "1")) {
            connection.setAutoCommit(false);
            for (int i = 0; i < 10; i++) {
                Checks.fails("42703", () -> Checks.one(connection, "select nonsense"));
                Checks.equal(sum(connection, i, 1), i + 1);
            }
            connection.commit();
        }
    }

    private static void settings() throws Exception {
        try (Connection connection = Checks.connect()) {
            Checks.one(connection, "create schema if not exists compat_java");
            connection.setSchema("compat_java");
            connection.setClientInfo("ApplicationName", "compat");
            for (int i = 0; i < 8; i++) {
                Checks.equal(Checks.one(connection, "select current_schema()"), "compat_java");
                Checks.equal(Checks.one(connection, "show application_name"), "compat");
            }
            Checks.one(connection, "set timezone to 'Asia/Tokyo'");
            Checks.equal(connection.unwrap(PGConnection.class).getParameterStatus("TimeZone"), "Asia/Tokyo");
        }
    }

    private static void startupOptions() throws Exception {
        try (Connection connection = Checks.connect(
                "options", "-c statement_timeout=54321 -c work_mem=7MB",
                "currentSchema", "pg_catalog",
                "ApplicationName", "compat",
                "assumeMinServerVersion", "15")) {
            Checks.equal(Checks.one(connection, "show statement_timeout"), "54321ms");
            Checks.equal(Checks.one(connection, "show work_mem"), "7MB");
            Checks.equal(Checks.one(connection, "show search_path"), "pg_catalog");
            Checks.equal(Checks.one(connection, "show application_name"), "compat");
        }
    }

    private static void temporaryTables() throws Exception {
        try (Connection connection = Checks.connect()) {
            Checks.one(connection, "create temp table mine (n int)");
            for (int i = 0; i < 10; i++) Checks.one(connection, "insert into mine values (" + i + ")");
            Checks.equal(Checks.one(connection, "select count(*) from mine"), "10");
        }
    }

    private static void advisoryLocks() throws Exception {
        try (Connection holder = Checks.connect(); Connection other = Checks.connect()) {
            Checks.one(holder, "select pg_advisory_lock(4718)");
            Checks.equal(Checks.one(other, "select pg_try_advisory_lock(4718)"), "f");
            Checks.equal(Checks.one(holder, "select pg_advisory_unlock(4718)"), "t");
            Checks.equal(Checks.one(other, "select pg_try_advisory_lock(4718)"), "t");
        }
    }

    private static void metadata() throws Exception {
        try (Connection connection = Checks.connect()) {
            Checks.one(connection, "create temp table described (id serial primary key, t text not null)");
            try (ResultSet columns = connection.getMetaData().getColumns(null, null, "described", "%")) {
                List<String> names = new ArrayList<>();
                while (columns.next()) names.add(columns.getString("COLUMN_NAME"));
                Checks.equal(names, List.of("id", "t"));
            }
            try (PreparedStatement statement = connection.prepareStatement("select id, t from described where id = ?")) {
                Checks.equal(statement.getParameterMetaData().getParameterTypeName(1), "int4");
                Checks.equal(statement.getMetaData().isNullable(2), java.sql.ResultSetMetaData.columnNoNulls);
            }
        }
    }

    private static void largeValues() throws Exception {
        try (Connection connection = Checks.connect();
                PreparedStatement statement = connection.prepareStatement("select ?::bytea")) {
            byte[] value = new byte[10_000_000];
            Arrays.fill(value, (byte) 200);
            statement.setBytes(1, value);
            try (ResultSet rows = statement.executeQuery()) {
                rows.next();
                Checks.equal(Arrays.equals(rows.getBytes(1), value), true);
            }
        }
    }

    private static void manyConnections() throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(60);
        List<Future<?>> all = new ArrayList<>();
        for (int n = 0; n < 60; n++) {
            int number = n;
            all.add(threads.submit(() -> {
                try (Connection connection = Checks.connect("prepareThreshold", "2")) {
                    for (int i = 0; i < 10; i++) Checks.equal(sum(connection, number, i), number + i);
                }
                return null;
            }));
        }
        for (Future<?> each : all) each.get();
        threads.shutdown();
    }

    private static void reuseAfterErrors() throws Exception {
        try (Connection connection = Checks.connect("prepareThreshold", "1");
                PreparedStatement statement = connection.prepareStatement("select 10 / ?::int")) {
            for (int i = 0; i < 20; i++) {
                statement.setInt(1, 0);
                Checks.fails("22012", statement::executeQuery);
                Checks.fails("42703", () -> Checks.one(connection, "select nonsense"));
                Checks.equal(sum(connection, i, 0), i);
            }
        }
    }

    private static void warningsAndKeys() throws Exception {
        try (Connection connection = Checks.connect(); Statement statement = connection.createStatement()) {
            statement.execute("do $$ begin raise notice 'told %', 42; end $$");
            Checks.equal(statement.getWarnings().getMessage(), "told 42");
            statement.execute("create temp table keyed (id serial, t text)");
            statement.executeUpdate("insert into keyed (t) values ('a'), ('b')", Statement.RETURN_GENERATED_KEYS);
            try (ResultSet keys = statement.getGeneratedKeys()) {
                keys.next();
                keys.next();
                Checks.equal(keys.getInt("id"), 2);
            }
        }
    }

    private static void hostsByRole() throws Exception {
        // The driver asks the server for its role before it takes the connection.
        try (Connection connection = Checks.connect("targetServerType", "primary")) {
            Checks.equal(Checks.one(connection, "show in_hot_standby"), "off");
        }
    }

    private static void logins() throws Exception {
        for (String url : new String[] {Checks.scramUrl, Checks.md5Url}) {
            try (Connection connection = Checks.connectTo(url)) {
                Checks.equal(url.contains(Checks.one(connection, "select current_user")), true);
            }
            Checks.fails("28P01", () -> Checks.connectTo(url, "password", "wrong").close());
        }
    }

    private Main() {}
}

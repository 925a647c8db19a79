import java.io.PrintWriter;
import java.io.StringWriter;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Objects;
import java.util.Properties;

/** Runs one check and prints a line of JSON for it. */
final class Checks {
    static String url;
    static String scramUrl;
    static String md5Url;

    interface Work {
        void run() throws Exception;
    }

    static void check(String name, Work work) {
        String error = null;
        try {
            work.run();
        } catch (Throwable cause) {
            StringWriter text = new StringWriter();
            cause.printStackTrace(new PrintWriter(text));
            error = text.toString().lines().filter(line -> !line.contains("java.base")).limit(12)
                    .reduce("", (all, line) -> all + line + "\n");
        }
        String rest = error == null ? "\"ok\":true" : "\"ok\":false,\"error\":" + quoted(error);
        System.out.println("{\"name\":" + quoted(name) + "," + rest + "}");
    }

    private static String quoted(String text) {
        StringBuilder out = new StringBuilder("\"");
        for (char each : text.toCharArray()) {
            if (each == '"' || each == '\\') out.append('\\').append(each);
            else if (each < ' ') out.append(String.format("\\u%04x", (int) each));
            else out.append(each);
        }
        return out.append('"').toString();
    }

    /** A connection with more properties, given as name, value, name, value. */
    static Connection connect(String... properties) throws SQLException {
        return connectTo(url, properties);
    }

    static Connection connectTo(String url, String... properties) throws SQLException {
        Properties all = new Properties();
        all.setProperty("sslmode", "disable");
        all.setProperty("socketTimeout", "30");
        all.setProperty("preferQueryMode", "extended");
        java.net.URI uri = java.net.URI.create(url);
        String[] user = uri.getRawUserInfo().split(":", 2);
        all.setProperty("user", user[0]);
        if (user.length > 1) {
            all.setProperty("password", java.net.URLDecoder.decode(user[1], java.nio.charset.StandardCharsets.UTF_8));
        }
        for (int i = 0; i < properties.length; i += 2) all.setProperty(properties[i], properties[i + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + uri.getAuthority().replaceFirst(".*@", "") + uri.getPath(), all);
    }

    /** Runs a statement without parameters, and gives back the first column of its first row as text, if any. */
    static String one(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            if (!statement.execute(sql)) return null;
            try (ResultSet rows = statement.getResultSet()) {
                return rows.next() ? rows.getString(1) : null;
            }
        }
    }

    static void equal(Object actual, Object expected) {
        if (Objects.deepEquals(actual, expected)) return;
        throw new AssertionError(shortened(actual) + " is not " + shortened(expected));
    }

    private static String shortened(Object value) {
        String text = String.valueOf(value);
        return text.length() > 200 ? text.substring(0, 200) + "..." : text;
    }

    /** Checks that something fails with this SQLSTATE. */
    static void fails(String state, Work work) throws Exception {
        try {
            work.run();
        } catch (SQLException cause) {
            equal(cause.getSQLState(), state);
            return;
        }
        throw new AssertionError("no error " + state);
    }

    private Checks() {}
}

// pgx: binary parameters, the statement cache in its modes, batches, pipelines, COPY, notifications, pools.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

var execModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement,
	pgx.QueryExecModeCacheDescribe,
	pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec,
	pgx.QueryExecModeSimpleProtocol,
}

func main() {
	check("parameter types", parameterTypes)
	check("query modes", queryModes)
	check("prepared statements", preparedStatements)
	check("prepared statement after a schema change", schemaChange)
	check("batch", batch)
	check("pipeline", pipeline)
	check("copy text", copyText)
	check("copy binary", copyBinary)
	check("large objects", largeObjects)
	check("listen and notify", listenNotify)
	check("cursor", cursor)
	check("rows left unread", rowsLeftUnread)
	check("cancel", cancelled)
	check("transactions and savepoints", transactions)
	check("settings and search path", settings)
	check("startup options", startupOptions)
	check("temporary tables", temporaryTables)
	check("advisory locks", advisoryLocks)
	check("large values", largeValues)
	check("pool", pool)
	check("many connections", manyConnections)
	check("reuse after errors", reuseAfterErrors)
	check("notices", notices)
	check("ping and function of several results", severalResults)
	check("scram and md5 login", logins)
}

func parameterTypes(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	at := time.Date(2024, 2, 29, 12, 30, 1, 5000, time.UTC)
	equal(one[int32](ctx, conn, "select $1::int4", 7), int32(7))
	equal(one[int64](ctx, conn, "select $1::int8", int64(1)<<40), int64(1)<<40)
	equal(one[float64](ctx, conn, "select $1::float8", 1.5), 1.5)
	equal(one[string](ctx, conn, "select $1::numeric::text", "12.340"), "12.340")
	equal(one[string](ctx, conn, "select $1::text", `naïve 'text' \ 😀`), `naïve 'text' \ 😀`)
	equal(one[bool](ctx, conn, "select $1::bool", true), true)
	equal(one[[]byte](ctx, conn, "select $1::bytea", []byte{0, 1, 255}), []byte{0, 1, 255})
	equal(one[time.Time](ctx, conn, "select $1::timestamptz", at).UTC(), at)
	equal(one[[]int32](ctx, conn, "select $1::int4[]", []int32{1, 2, 3}), []int32{1, 2, 3})
	equal(one[[]*string](ctx, conn, "select $1::text[]", []*string{nil})[0] == nil, true)
	equal(one[netip.Addr](ctx, conn, "select $1::inet", netip.MustParseAddr("10.1.2.3")), netip.MustParseAddr("10.1.2.3"))
	equal(one[map[string]any](ctx, conn, "select $1::jsonb", map[string]any{"a": nil}), map[string]any{"a": nil})
	equal(one[*int32](ctx, conn, "select $1::int4", nil), (*int32)(nil))
	get(conn.Exec(ctx, "drop type if exists compat_go; create type compat_go as (n int, t text)"))
	conn.TypeMap().RegisterType(get(conn.LoadType(ctx, "compat_go")))
	type pair struct {
		N int32
		T string
	}
	equal(one[pair](ctx, conn, "select $1::compat_go", pair{5, "x"}), pair{5, "x"})
	get(conn.Exec(ctx, "drop type compat_go"))
}

func queryModes(ctx context.Context) {
	for _, mode := range execModes {
		conn := connect(ctx, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
		for i := range 10 {
			equal(one[int](ctx, conn, "select $1::int + 1", i), i+1)
			equal(one[string](ctx, conn, "select $1::text", fmt.Sprint(i)), fmt.Sprint(i))
		}
		must(conn.Close(ctx))
	}
}

func preparedStatements(ctx context.Context) {
	conn := connect(ctx, func(config *pgx.ConnConfig) { config.StatementCacheCapacity = 7 })
	defer conn.Close(ctx)
	for round := range 4 {
		for i := range 20 {
			equal(one[int](ctx, conn, fmt.Sprintf("select $1::int + %d", i), round), round+i)
		}
	}
	get(conn.Prepare(ctx, "named", "select $1::int * 2"))
	equal(one[int](ctx, conn, "named", 21), 42)
	must(conn.Deallocate(ctx, "named"))
	read := conn.PgConn().ExecPrepared(ctx, "named", [][]byte{[]byte("1")}, nil, nil).Read()
	fails(read.Err, "26000")
	must(conn.DeallocateAll(ctx))
	equal(one[int](ctx, conn, "select $1::int + 0", 5), 5)
}

func schemaChange(ctx context.Context) {
	conn, other := connect(ctx), connect(ctx)
	defer conn.Close(ctx)
	defer other.Close(ctx)
	get(conn.Exec(ctx, "drop table if exists compat_go_change"))
	get(conn.Exec(ctx, "create table compat_go_change (a int)"))
	rows := func() (int, error) {
		rows, err := conn.Query(ctx, "select * from compat_go_change")
		if err != nil {
			return 0, err
		}
		defer rows.Close()
		count := 0
		for rows.Next() {
			count += len(rows.RawValues())
		}
		return count, rows.Err()
	}
	get(rows())
	get(other.Exec(ctx, "alter table compat_go_change add b int; insert into compat_go_change values (1, 2)"))
	// As with a server that is asked directly: the cached statement fails once and is then prepared anew.
	if _, err := rows(); err != nil {
		fails(err, "0A000")
	}
	equal(get(rows()), 2)
	get(conn.Exec(ctx, "drop table compat_go_change"))
}

func batch(ctx context.Context) {
	for _, mode := range execModes {
		conn := connect(ctx, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
		queue := &pgx.Batch{}
		sum := 0
		for i := range 200 {
			queue.Queue(fmt.Sprintf("select $1::int + %d", i%5), i).QueryRow(func(row pgx.Row) error {
				var n int
				err := row.Scan(&n)
				sum += n - i
				return err
			})
		}
		must(conn.SendBatch(ctx, queue).Close())
		equal(sum, 400)
		broken := &pgx.Batch{}
		broken.Queue("select 1")
		broken.Queue("select 1 / $1::int", 0)
		broken.Queue("select 2")
		fails(conn.SendBatch(ctx, broken).Close(), "22012")
		equal(one[int](ctx, conn, "select 3"), 3)
		must(conn.Close(ctx))
	}
}

func pipeline(ctx context.Context) {
	conn := connect(ctx).PgConn()
	defer conn.Close(ctx)
	pipeline := conn.StartPipeline(ctx)
	pipeline.SendPrepare("half", "select $1::int / $2::int", nil)
	must(pipeline.Sync())
	for i := range 100 {
		divisor := "2"
		if i%10 == 9 {
			divisor = "0"
		}
		pipeline.SendQueryPrepared("half", [][]byte{[]byte(fmt.Sprint(i)), []byte(divisor)}, nil, nil)
		must(pipeline.Sync())
	}
	pipeline.SendQueryParams("select 'not synced'", nil, nil, nil, nil)
	must(pipeline.Flush())
	pipeline.SendDeallocate("half")
	must(pipeline.Sync())
	syncs, answers, errors := 0, 0, 0
	for syncs < 102 {
		told, err := pipeline.GetResults()
		if err != nil {
			fails(err, "22012")
			errors++
			continue
		}
		switch told := told.(type) {
		case *pgconn.ResultReader:
			if read := told.Read(); read.Err != nil {
				fails(read.Err, "22012")
				errors++
			} else {
				answers++
			}
		case *pgconn.PipelineSync:
			syncs++
		}
	}
	must(pipeline.Close())
	equal([]int{answers, errors}, []int{91, 10})
}

func copyText(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	get(conn.Exec(ctx, "create temp table copied (id int, text text)"))
	var lines strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&lines, "%d\tline %d\n", i, i)
	}
	equal(get(conn.PgConn().CopyFrom(ctx, strings.NewReader(lines.String()), "copy copied from stdin")).RowsAffected(), int64(20000))
	var out bytes.Buffer
	get(conn.PgConn().CopyTo(ctx, &out, "copy copied to stdout"))
	equal(out.String() == lines.String(), true)
	_, err := conn.PgConn().CopyFrom(ctx, strings.NewReader("bad\tbad\n"), "copy copied from stdin")
	fails(err, "22P02")
	reader, writer := io.Pipe()
	_ = writer.CloseWithError(fmt.Errorf("enough"))
	_, err = conn.PgConn().CopyFrom(ctx, reader, "copy copied from stdin")
	fails(err, "57014")
	equal(one[int](ctx, conn, "select count(*) from copied"), 20000)
}

func copyBinary(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	get(conn.Exec(ctx, "create temp table copied (id int, text text, at timestamptz)"))
	source := pgx.CopyFromSlice(20000, func(i int) ([]any, error) {
		return []any{i, fmt.Sprintf("line %d", i), time.Unix(int64(i), 0)}, nil
	})
	equal(get(conn.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"id", "text", "at"}, source)), int64(20000))
	equal(one[int](ctx, conn, "select count(*) from copied where text = 'line ' || id"), 20000)
	var out bytes.Buffer
	get(conn.PgConn().CopyTo(ctx, &out, "copy copied to stdout (format binary)"))
	get(conn.PgConn().CopyFrom(ctx, &out, "copy copied from stdin (format binary)"))
	equal(one[int](ctx, conn, "select count(*) from copied"), 40000)
}

func largeObjects(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	tx := get(conn.Begin(ctx))
	objects := tx.LargeObjects()
	oid := get(objects.Create(ctx, 0))
	object := get(objects.Open(ctx, oid, pgx.LargeObjectModeRead|pgx.LargeObjectModeWrite))
	data := bytes.Repeat([]byte("large object"), 100_000)
	get(object.Write(data))
	get(object.Seek(0, io.SeekStart))
	equal(bytes.Equal(get(io.ReadAll(object)), data), true)
	must(objects.Unlink(ctx, oid))
	must(tx.Commit(ctx))
}

func listenNotify(ctx context.Context) {
	listener, speaker := connect(ctx), connect(ctx)
	defer listener.Close(ctx)
	defer speaker.Close(ctx)
	get(listener.Exec(ctx, "listen compat_go"))
	for i := range 3 {
		get(speaker.Exec(ctx, "select pg_notify('compat_go', $1)", fmt.Sprint(i)))
	}
	for i := range 3 {
		equal(get(listener.WaitForNotification(ctx)).Payload, fmt.Sprint(i))
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, err := listener.WaitForNotification(short)
	equal(pgconn.Timeout(err), true)
	equal(one[int](ctx, listener, "select 4"), 4)
}

func cursor(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	tx := get(conn.Begin(ctx))
	get(tx.Exec(ctx, "declare walker cursor with hold for select i from generate_series(1, 1000) i"))
	fetch := func(from pgx.Tx) int {
		rows := get(from.Query(ctx, "fetch 100 from walker"))
		return len(get(pgx.CollectRows(rows, pgx.RowTo[int])))
	}
	equal(fetch(tx), 100)
	must(tx.Commit(ctx))
	equal(one[int](ctx, conn, "fetch 1 from walker"), 101)
	get(conn.Exec(ctx, "close walker"))
}

func rowsLeftUnread(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	rows := get(conn.Query(ctx, "select i from generate_series(1, 100000) i"))
	equal(rows.Next(), true)
	rows.Close()
	must(rows.Err())
	equal(one[int](ctx, conn, "select 4"), 4)
}

func cancelled(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	for range 3 {
		time.AfterFunc(200*time.Millisecond, func() { must(conn.PgConn().CancelRequest(ctx)) })
		_, err := conn.Exec(ctx, "select pg_sleep(20)")
		fails(err, "57014")
		equal(one[int](ctx, conn, "select 5"), 5)
	}
	// A context that ends closes the connection by itself; others are not touched.
	short, stop := context.WithTimeout(ctx, 100*time.Millisecond)
	defer stop()
	other := connect(ctx)
	_, err := other.Exec(short, "select pg_sleep(20)")
	equal(pgconn.Timeout(err), true)
	<-other.PgConn().CleanupDone()
	equal(one[int](ctx, conn, "select 6"), 6)
}

func transactions(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	get(conn.Exec(ctx, "create temp table steps (n int)"))
	options := pgx.TxOptions{IsoLevel: pgx.Serializable, DeferrableMode: pgx.Deferrable}
	must(pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		equal(one[string](ctx, tx, "show transaction_isolation"), "serializable")
		get(tx.Exec(ctx, "insert into steps values (1)"))
		inner := get(tx.Begin(ctx))
		_, err := inner.Exec(ctx, "insert into steps values (1 / $1::int)", 0)
		fails(err, "22012")
		must(inner.Rollback(ctx))
		get(tx.Exec(ctx, "insert into steps values (4)"))
		return nil
	}))
	equal(one[int](ctx, conn, "select sum(n) from steps"), 5)
	equal(string(conn.PgConn().TxStatus()), "I")
}

func settings(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	get(conn.Exec(ctx, "create schema if not exists compat_go; set search_path to compat_go; set timezone to 'Asia/Tokyo'"))
	equal(conn.PgConn().ParameterStatus("TimeZone"), "Asia/Tokyo")
	for range 8 {
		equal(one[string](ctx, conn, "select current_schema()"), "compat_go")
	}
	get(conn.Exec(ctx, "reset all"))
	equal(one[string](ctx, conn, "select current_schema()"), "public")
}

func startupOptions(ctx context.Context) {
	conn := connect(ctx, func(config *pgx.ConnConfig) {
		config.RuntimeParams = map[string]string{
			"statement_timeout": "54321",
			"search_path":       "pg_catalog",
			"application_name":  "compat",
			"options":           "-c work_mem=7MB",
		}
	})
	defer conn.Close(ctx)
	equal(one[string](ctx, conn, "show statement_timeout"), "54321ms")
	equal(one[string](ctx, conn, "show search_path"), "pg_catalog")
	equal(one[string](ctx, conn, "show work_mem"), "7MB")
	equal(conn.PgConn().ParameterStatus("application_name"), "compat")
}

func temporaryTables(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	get(conn.Exec(ctx, "create temp table mine (n int)"))
	for i := range 10 {
		get(conn.Exec(ctx, "insert into mine values ($1)", i))
	}
	equal(one[int](ctx, conn, "select count(*) from mine"), 10)
}

func advisoryLocks(ctx context.Context) {
	holder, other := connect(ctx), connect(ctx)
	defer holder.Close(ctx)
	defer other.Close(ctx)
	get(holder.Exec(ctx, "select pg_advisory_lock(4716)"))
	equal(one[bool](ctx, other, "select pg_try_advisory_lock(4716)"), false)
	equal(one[bool](ctx, holder, "select pg_advisory_unlock(4716)"), true)
	equal(one[bool](ctx, other, "select pg_try_advisory_lock(4716)"), true)
}

func largeValues(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	value := bytes.Repeat([]byte{0, 1, 2, 3, 255}, 2_000_000)
	equal(bytes.Equal(one[[]byte](ctx, conn, "select $1::bytea", value), value), true)
}

func pool(ctx context.Context) {
	config := get(pgxpool.ParseConfig(url))
	config.MaxConns = 20
	pool := get(pgxpool.NewWithConfig(ctx, config))
	defer pool.Close()
	each(60, func(n int) {
		for i := range 10 {
			equal(one[int](ctx, pool, "select $1::int", n*100+i), n*100+i)
		}
	})
}

func manyConnections(ctx context.Context) {
	each(60, func(n int) {
		conn := connect(ctx)
		defer conn.Close(ctx)
		equal(one[int](ctx, conn, "select $1::int", n), n)
	})
}

// each runs the work so often at once, and panics with the first panic of them.
func each(count int, work func(n int)) {
	var group sync.WaitGroup
	causes := make(chan any, count)
	for n := range count {
		group.Add(1)
		go func() {
			defer group.Done()
			defer func() { causes <- recover() }()
			work(n)
		}()
	}
	group.Wait()
	close(causes)
	for cause := range causes {
		if cause != nil {
			panic(cause)
		}
	}
}

func reuseAfterErrors(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	for i := range 20 {
		_, err := conn.Exec(ctx, "select 10 / $1::int", 0)
		fails(err, "22012")
		_, err = conn.Exec(ctx, "select nonsense")
		fails(err, "42703")
		equal(one[int](ctx, conn, "select $1::int", i), i)
	}
}

func notices(ctx context.Context) {
	var told []string
	conn := connect(ctx, func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { told = append(told, notice.Message) }
	})
	defer conn.Close(ctx)
	get(conn.Exec(ctx, "do $$ begin raise notice 'told %', 42; end $$"))
	equal(told, []string{"told 42"})
}

func severalResults(ctx context.Context) {
	conn := connect(ctx)
	defer conn.Close(ctx)
	must(conn.Ping(ctx))
	results := get(conn.PgConn().Exec(ctx, "select 1; select 2, 3; select from generate_series(1, 4)").ReadAll())
	equal(len(results), 3)
	equal(len(results[2].Rows), 4)
	var point pgtype.Point
	must(conn.QueryRow(ctx, "select point(1, 2)").Scan(&point))
	equal(point.P, pgtype.Vec2{X: 1, Y: 2})
}

func logins(ctx context.Context) {
	for _, each := range []string{scramURL, md5URL} {
		conn := get(pgx.Connect(ctx, each))
		equal(strings.Contains(each, one[string](ctx, conn, "select current_user::text")), true)
		must(conn.Close(ctx))
		config := get(pgx.ParseConfig(each))
		config.Password = "wrong"
		_, err := pgx.ConnectConfig(ctx, config)
		fails(err, "28P01")
	}
}

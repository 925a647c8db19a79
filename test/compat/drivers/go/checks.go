package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const limit = 30 * time.Second

var url, scramURL, md5URL = os.Args[1], os.Args[2], os.Args[3]

type result struct {
	Name  string `json:"name"`
	Ok    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

// check runs one check, which panics when something is wrong, and prints a line of JSON for it.
func check(name string, work func(ctx context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	told := result{Name: name, Ok: true}
	func() {
		defer func() {
			if cause := recover(); cause != nil {
				told.Ok = false
				told.Error = fmt.Sprintf("%v\n%s", cause, ownFrames(string(debug.Stack())))
			}
		}()
		work(ctx)
	}()
	line, err := json.Marshal(told)
	must(err)
	fmt.Println(string(line))
}

// ownFrames keeps the places in this program.
func ownFrames(stack string) string {
	var places []string
	for _, line := range strings.Split(stack, "\n") {
		if strings.Contains(line, "main.go:") {
			places = append(places, line)
		}
	}
	return strings.Join(places, "\n")
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func get[T any](value T, err error) T {
	must(err)
	return value
}

func equal(actual, expected any) {
	if !reflect.DeepEqual(actual, expected) {
		panic(fmt.Sprintf("%.200v is not %.200v", actual, expected))
	}
}

// fails checks that an error is the server's with this SQLSTATE.
func fails(err error, code string) {
	var told *pgconn.PgError
	if !errors.As(err, &told) || told.Code != code {
		panic(fmt.Sprintf("%v instead of an error %s", err, code))
	}
}

func connect(ctx context.Context, configure ...func(*pgx.ConnConfig)) *pgx.Conn {
	config := get(pgx.ParseConfig(url))
	for _, each := range configure {
		each(config)
	}
	return get(pgx.ConnectConfig(ctx, config))
}

// one runs a query and gives back the only column of its only row.
func one[T any](ctx context.Context, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any) T {
	var value T
	must(conn.QueryRow(ctx, sql, args...).Scan(&value))
	return value
}

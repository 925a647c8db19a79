"""Runs the checks of one driver in order and prints a line of JSON for each."""

import asyncio
import inspect
import json
import sys
import traceback

URL, SCRAM_URL, MD5_URL = sys.argv[1:4]

_checks = []


def check(name):
    """Decorator of a check, a plain or an async function that takes nothing and raises when something is wrong."""

    def add(function):
        _checks.append((name, function))
        return function

    return add


def run():
    for name, function in _checks:
        result = {"name": name, "ok": True}
        try:
            if inspect.iscoroutinefunction(function):
                asyncio.run(asyncio.wait_for(function(), 30))
            else:
                function()
        except BaseException:
            result = {"name": name, "ok": False, "error": traceback.format_exc(limit=-3).rstrip()}
        print(json.dumps(result), flush=True)


def equal(actual, expected):
    assert actual == expected, f"{str(actual)[:200]} is not {str(expected)[:200]}"

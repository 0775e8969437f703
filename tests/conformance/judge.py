#!/usr/bin/env python3
"""Runs the public HTTP cache tests against a caching proxy, and compares the results with expected.toml.

    judge.py PROXY [ARGUMENT ...]

PROXY is started with --listen, --origin and the arguments. A test that is listed in expected.toml must
fail, and all other tests must pass.
"""

import collections
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import tomllib

HERE = pathlib.Path(__file__).parent
LIMIT = 300  # seconds for the whole suite, which has no time limit itself


def main():
    expected = tomllib.loads((HERE / "expected.toml").read_text())
    excused = {test: group["why"] for group in expected["excuse"] for test in group["ids"]}
    port = free_port()
    origin = start_origin(port)
    command = [*sys.argv[1:], "--listen", "127.0.0.1:0", "--origin", f"http://127.0.0.1:{port}"]
    proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        base = "http://" + proxy.stdout.readline().removeprefix("listening on ").strip()
        results = run(base)
        wrong = unexpected(results, excused)
        # Some tests depend on timers and fail by chance. Each unexpected result is checked again, up to
        # twice, by a run of that test alone.
        for _ in range(2):
            if wrong:
                results |= {test: one for test in wrong for test, one in run(base, test).items()}
                wrong = unexpected(results, excused)
    finally:
        for process in (proxy, origin):
            process.kill()
            process.wait()
    report(results, excused, wrong, expected["least"])


def run(base, *ids):
    command = ["node", "--no-warnings", str(HERE / "run.mjs"), base, *ids]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, cwd=HERE)
    if done.returncode:
        sys.exit(f"the suite did not run: {done.stderr}")
    # The suite may print lines before the report.
    return json.loads(done.stdout[done.stdout.index('{"'):])


def unexpected(results, excused):
    return [test for test, one in results.items() if one["passed"] == (test in excused)]


def report(results, excused, wrong, least):
    totals, passed = collections.Counter(), collections.Counter()
    for one in results.values():
        totals[one["kind"]] += 1
        passed[one["kind"]] += one["passed"]
    for kind in totals:
        print(f"{kind}: {passed[kind]} of {totals[kind]}")
    failed = 0
    for test in wrong:
        failed += 1
        if results[test]["passed"]:
            print(f"passes unexpectedly: {test} (expected.toml says: {excused[test]})")
        else:
            print(f"does not pass: {test}: {results[test]['why']}")
    for test in excused.keys() - results.keys():
        failed += 1
        print(f"expected.toml lists a test that is not in the suite: {test}")
    for kind, count in least.items():
        if passed[kind] < count:
            failed += 1
            print(f"{kind}: {passed[kind]} tests pass, expected at least {count}")
    print(f"conformance: {len(results) - len(wrong)} passed, {failed} failed")
    sys.exit(failed > 0)


def start_origin(port):
    environment = os.environ | {
        "npm_config_protocol": "http",
        "npm_config_port": str(port),
        "npm_config_pidfile": os.devnull,
    }
    origin = subprocess.Popen(
        ["node", str(HERE / "origin.mjs")],
        cwd=HERE / "node_modules" / "http-cache-tests",
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    line = origin.stdout.readline()
    if "127.0.0.1" not in line:
        origin.kill()
        sys.exit(f"the suite's origin did not start on loopback: {line}")
    # A thread reads and drops the further output of the origin, so that a full pipe does not block it.
    threading.Thread(target=lambda: collections.deque(origin.stdout, maxlen=0), daemon=True).start()
    return origin


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    main()

"""One agent alone, and three that hold a million machines: what issue 4 asks of a whole node.

Baselines are those of today's system in the same shapes (docs/decisions/0002-how-we-measure.md).
"""

import json
import subprocess
import time

import cluster
import fleet
from report import Figure

ALONE = ("ams-1",)


def run(root, out, quick):
    runs = 1 if quick else 3
    rows = 100_000 if quick else 1_000_000
    folder = out / "many-data"
    figures = []
    for measure in (_alone, _machines, _schema_changes, _long_readers, _heartbeats):
        print(f"  {measure.__name__.strip('_')} …", flush=True)
        figures += measure(root, folder, runs, rows)
    return figures


def _alone(root, folder, runs, _rows):
    found = []
    for clients, connections, target, baseline in ((1, 1, 4_000, 884), (64, 64, 25_000, 885),
                                                   (64, 4, 25_000, None)):
        for stream in (False, True):
            with fleet.Fleet(root, folder, ALONE) as nodes:
                asked = ["--clients", clients, "--connections", connections, "--seconds", 4]
                asked += ["--stream"] if stream else []
                values = [nodes.bench("load", "--agents", nodes.apis, *asked)[0]
                          for _ in range(runs)]
            how = "a stream each" if stream else "a call each"
            who = f"{clients} clients" if clients > 1 else "1 client"
            who += f" of {connections} programs" if clients > connections else ""
            found.append(Figure(f"one-row transactions, one agent, {who}, {how}", "tx/s",
                                [value["transactions_per_s"] for value in values], "higher", target,
                                baseline))
            found.append(Figure(f"the same, p99 ({who}, {how})", "ms",
                                [value["p99_ms"] for value in values], "lower"))
    return found


def _machines(root, folder, runs, rows):
    """Inserts on one node until all have all; memory; a node that comes late; a kill and a start."""
    rates, memory, joining, replaying = [], [], [], []
    for _ in range(runs):
        with fleet.Fleet(root, folder) as nodes:
            start = time.monotonic()
            nodes.bench("insert", "--agent", nodes.agents[0].api, "--rows", rows)
            nodes.wait_equal("--table", "machines", "--rows", rows, "--timeout", 300)
            rates.append(rows / (time.monotonic() - start))
            memory.append(max(agent.rss_mib() for agent in nodes.agents))
            late = nodes.spawn("late-1")
            start = time.monotonic()
            late.start()
            nodes.wait_equal("--table", "machines", "--rows", rows, "--timeout", 300)
            joining.append(time.monotonic() - start)
            replaying.append(_restart_after_kill(nodes, nodes.agents[0]))
    number = f"{rows:,} machines"
    return [
        Figure(f"{number}, 1,000 a transaction, until all 3 nodes hold them", "rows/s", rates,
               "higher", 40_000),
        Figure(f"RSS of the largest node holding {number}", "MiB", memory, "lower", 200, 2_048),
        Figure(f"a new node, {number}, until it holds and answers them", "s", joining, "lower", 10),
        Figure(f"SIGKILL under load, {number}: until it answers", "s", replaying, "lower", 2),
    ]


def _restart_after_kill(nodes, victim):
    """Updates until just before a checkpoint is due, a kill; how long until a query is answered."""
    nodes.bench("load", "--agents", victim.api, "--clients", 64, "--seconds", 8, "--update",
                  "--keys", 60_000)
    victim.kill()
    start = time.monotonic()
    victim.start()
    nodes.wait_answer(victim)
    return time.monotonic() - start


def _schema_changes(root, folder, runs, rows):
    """A column and an index for all machines while a client writes, one row after the other."""
    adding, indexing, waits = [], [], []
    number = f"{rows:,} machines"
    with fleet.Fleet(root, folder, ALONE) as nodes:
        agent = nodes.agents[0]
        nodes.bench("insert", "--agent", agent.api, "--rows", rows)
        for run in range(runs):
            for figures, after, more in (
                    (adding, "CREATE TABLE machines (\n", f"    bench_{run} TEXT,\n"),
                    (indexing, "CREATE INDEX machines_app ON machines (app);\n",
                     f"CREATE INDEX bench_i{run} ON machines (state, region);\n")):
                agent.declare(after, more)
                load = subprocess.Popen(
                    [nodes.binary, "bench", "load", "--agents", agent.api, "--clients", "1",
                     "--seconds", "4", "--format", "json"], stdout=subprocess.PIPE, text=True)
                time.sleep(1)
                nodes.command(agent, "schema", "apply")
                said = json.loads(load.communicate()[0])
                if load.returncode != 0 or said["failed"] > 0:
                    raise SystemExit(f"writes failed while the schema changed: {said}")
                figures.append(_counter(nodes, agent, "store.last_schema_change_ms"))
                if figures is indexing:
                    waits.append(said["max_ms"])
    return [
        Figure(f"adding a nullable column to {number}", "ms", adding, "lower", 50),
        Figure(f"adding an index over two columns to {number}", "ms", indexing, "lower"),
        Figure("the longest that a write waited for that index; none failed", "ms", waits, "lower"),
    ]


def _long_readers(root, folder, runs, rows):
    """5,000 rows/s while ten queries each hold what they read for as long as they may."""
    seconds = 40 if rows >= 1_000_000 else 10
    limit_mib = 16  # the least that is allowed, so that it is reached
    query = "SELECT count(*) FROM machine_load a, machine_load b WHERE a.machine > b.machine || 'x'"
    largest, done = [], []
    with fleet.Fleet(root, folder, ()) as nodes:
        agent = nodes.spawn(*ALONE)
        agent.configure(f"[limits]\nreaders = 10\nwal_bytes_max = {limit_mib << 20}\n")
        agent.start().wait_ready()
        nodes.bench("heartbeats", "--agents", agent.api, "--machines", 10_000, "--prepare")
        for _ in range(runs):
            load = subprocess.Popen(
                [nodes.binary, "bench", "heartbeats", "--agents", agent.api, "--machines", "10000",
                 "--rate", "5050", "--seconds", str(seconds), "--format", "json"],
                stdout=subprocess.PIPE, text=True)
            readers, most = [], 0
            while load.poll() is None:
                readers = [reader for reader in readers if reader.poll() is None]
                while len(readers) < 10:
                    readers.append(subprocess.Popen(
                        [nodes.binary, "query", query, "--api", agent.api],
                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
                status = json.loads(nodes.command(agent, "status", "--format", "json"))
                most = max(most, status["wal_bytes"])
                time.sleep(0.2)
            for reader in readers:
                reader.kill()
                reader.wait()
            largest.append(most / 2**20)
            done.append(json.loads(load.stdout.read())["rows_per_s"])
    return [
        Figure(f"write-ahead log of at most {limit_mib} MiB, 5,000 rows/s beside ten long readers",
               "MiB", largest, "lower", limit_mib),
        Figure("the same, rows/s written", "rows/s", done, "higher", 5_000),
    ]


def _counter(nodes, agent, name):
    status = json.loads(nodes.command(agent, "status", "--format", "json"))
    return status["counters"][name]


def _heartbeats(root, folder, runs, _rows):
    return cluster.load_reports(root, folder, runs, 40_000, 15)

"""One agent alone, and three that hold a million machines: what issue 4 asks of a whole node.

Baselines are those of today's system in the same shapes (docs/decisions/0002-how-we-measure.md).
"""

import time

import fleet
from report import Figure

ALONE = ("ams-1",)


def run(root, out, quick):
    runs = 1 if quick else 3
    rows = 100_000 if quick else 1_000_000
    folder = out / "many-data"
    figures = []
    for measure in (_alone, _machines, _heartbeats):
        print(f"  {measure.__name__.strip('_')} …", flush=True)
        figures += measure(root, folder, runs, rows)
    return figures


def _alone(root, folder, runs, _rows):
    found = []
    for clients, target, baseline in ((1, 4_000, 884), (64, 25_000, 885)):
        for stream in (False, True):
            with fleet.Fleet(root, folder, ALONE) as cluster:
                asked = ["--clients", clients, "--seconds", 4] + (["--stream"] if stream else [])
                values = [cluster.bench("load", "--agents", cluster.apis, *asked)[0]
                          for _ in range(runs)]
            how = "a stream each" if stream else "a call each"
            who = f"{clients} clients" if clients > 1 else "1 client"
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
        with fleet.Fleet(root, folder) as cluster:
            start = time.monotonic()
            cluster.bench("insert", "--agent", cluster.agents[0].api, "--rows", rows)
            cluster.wait_equal("--table", "machines", "--rows", rows, "--timeout", 300)
            rates.append(rows / (time.monotonic() - start))
            memory.append(max(agent.rss_mib() for agent in cluster.agents))
            late = cluster.spawn("late-1")
            start = time.monotonic()
            late.start()
            cluster.wait_equal("--table", "machines", "--rows", rows, "--timeout", 300)
            joining.append(time.monotonic() - start)
            replaying.append(_restart_after_kill(cluster, cluster.agents[0]))
    number = f"{rows:,} machines"
    return [
        Figure(f"{number}, 1,000 a transaction, until all 3 nodes hold them", "rows/s", rates,
               "higher", 40_000),
        Figure(f"RSS of the largest node holding {number}", "MiB", memory, "lower", 200, 2_048),
        Figure(f"a new node, {number}, until it holds and answers them", "s", joining, "lower", 10),
        Figure(f"SIGKILL under load, {number}: until it answers", "s", replaying, "lower", 2),
    ]


def _restart_after_kill(cluster, victim):
    """Updates until just before a checkpoint is due, a kill; how long until a query is answered."""
    cluster.bench("load", "--agents", victim.api, "--clients", 64, "--seconds", 8, "--update",
                  "--keys", 60_000)
    victim.kill()
    start = time.monotonic()
    victim.start()
    cluster.wait_answer(victim)
    return time.monotonic() - start


def _heartbeats(root, folder, runs, _rows):
    rates, late, cpu = [], [], []
    with fleet.Fleet(root, folder) as cluster:
        cluster.bench("heartbeats", "--agents", cluster.apis, "--machines", 10_000, "--prepare")
        cluster.wait_equal("--table", "machine_load", "--rows", 10_000)
        for _ in range(runs):
            before = [agent.cpu_seconds() for agent in cluster.agents]
            sent = cluster.bench("heartbeats", "--agents", cluster.apis, "--machines", 10_000,
                                 "--rate", 40_400, "--seconds", 8)[0]
            late.append(cluster.wait_equal()["seconds"])
            rates.append(sent["rows_per_s"])
            used = [agent.cpu_seconds() - old for agent, old in zip(cluster.agents, before)]
            cpu.append(sum(used) / len(used) / sent["rows"] * 1e6)
    return [
        Figure("load reports, 40,000 rows/s asked, 3 writers", "rows/s", rates, "higher", 40_000,
               13_260),
        Figure("the same, CPU per row per node", "µs", cpu, "lower", 15, 53),
        Figure("the same, until all are equal after the last", "s", late, "lower"),
    ]

"""Real agents on loopback, load over gRPC from the same machine.

Baselines are those of today's system in the same shapes on such a machine (Corrosion, one run each,
see docs/decisions/0002-how-we-measure.md).
"""

import subprocess
import time

import fleet
from report import Figure


def run(root, out, quick):
    runs = 1 if quick else 3
    rows = 20_000 if quick else 100_000
    folder = out / "cluster-data"
    figures = []
    for measure in (_transactions, _insert, _latency, _heartbeats, _kill):
        print(f"  {measure.__name__.strip('_')} …", flush=True)
        figures += measure(root, folder, runs, rows)
    return figures


def _transactions(root, folder, runs, _rows):
    found = []
    with fleet.Fleet(root, folder) as cluster:
        for clients, target, baseline in ((1, 3_000, 884), (64, 8_000, 885)):
            values = [cluster.bench("load", "--agents", cluster.agents[0].api, "--clients", clients,
                                    "--seconds", 4)[0] for _ in range(runs)]
            found.append(Figure(f"one-row transactions, {clients} clients" if clients > 1 else
                                "one-row transactions, 1 client", "tx/s",
                                [value["transactions_per_s"] for value in values],
                                "higher", target, baseline))
            found.append(Figure(f"the same, p99 ({clients})", "ms",
                                [value["p99_ms"] for value in values], "lower"))
            cluster.wait_equal()
    return found


def _insert(root, folder, runs, rows):
    """Inserts on one node until all have all; then what it cost, and a node that comes late."""
    rates, writer_rates, cpu, disk, memory, joining = [], [], [], [], [], []
    for _ in range(runs):
        with fleet.Fleet(root, folder) as cluster:
            receivers = cluster.agents[1:]
            cpu_before = [agent.cpu_seconds() for agent in receivers]
            start = time.monotonic()
            insert = cluster.bench("insert", "--agent", cluster.agents[0].api, "--rows", rows)[0]
            cluster.wait_equal("--table", "machines", "--rows", rows, "--timeout", 120)
            rates.append(rows / (time.monotonic() - start))
            writer_rates.append(insert["rows_per_s"])
            used = [agent.cpu_seconds() - before for agent, before in zip(receivers, cpu_before)]
            cpu.append(max(used) / rows * 1e6)
            disk.append(max(agent.disk_bytes() for agent in cluster.agents) / rows)
            memory.append(max(agent.rss_mib() for agent in cluster.agents))
            start = time.monotonic()
            cluster.add("late-1")
            cluster.wait_equal("--table", "machines", "--rows", rows, "--timeout", 120)
            joining.append(time.monotonic() - start)
    number = f"{rows:,} machines"
    return [
        Figure(f"{number}, 1,000 a transaction, until all 3 nodes hold them", "rows/s", rates,
               "higher", 30_000, 3_570),
        Figure("the same, acknowledged by the writer", "rows/s", writer_rates, "higher", None, 7_500),
        Figure("the same, CPU per row at a receiver", "µs", cpu, "lower", 20, 214),
        Figure("the same, disk per row, log and WAL included", "bytes", disk, "lower", 450, 1_290),
        Figure("the same, RSS of the largest node", "MiB", memory, "lower", 80, 285),
        Figure(f"late joiner, {number}", "s", joining, "lower", 2, 25),
    ]


def _latency(root, folder, runs, _rows):
    same, other = [], []
    with fleet.Fleet(root, folder) as cluster:
        agents = cluster.agents
        for _ in range(runs):
            result = cluster.bench("latency", "--writer", agents[0].api, "--subscribers",
                                   f"{agents[0].api},{agents[1].api}", "--samples", 300)
            same.append(result[0])
            other.append(result[1])
    found = []
    for name, values, target, baseline in (("same node", same, 0.5, 308), ("other node", other, 1.5, 323)):
        found.append(Figure(f"write sent -> event, {name}, p50", "ms",
                            [value["sent_p50_ms"] for value in values], "lower", target, baseline))
        found.append(Figure(f"write sent -> event, {name}, p99", "ms",
                            [value["sent_p99_ms"] for value in values], "lower"))
    return found


def _heartbeats(root, folder, runs, _rows):
    return load_reports(root, folder, runs, 20_000, 25)


def load_reports(root, folder, runs, rate, cpu_target):
    """Three writers tell the load of 10,000 machines, rows/s as asked."""
    rates, late, cpu = [], [], []
    with fleet.Fleet(root, folder) as cluster:
        cluster.bench("heartbeats", "--agents", cluster.apis, "--machines", 10_000, "--prepare")
        cluster.wait_equal("--table", "machine_load", "--rows", 10_000)
        for _ in range(runs):
            before = [agent.cpu_seconds() for agent in cluster.agents]
            # A little more is asked, so that the rate can be reached with the answers waited for.
            sent = cluster.bench("heartbeats", "--agents", cluster.apis, "--machines", 10_000,
                                 "--rate", rate * 101 // 100, "--seconds", 8)[0]
            late.append(cluster.wait_equal()["seconds"])
            rates.append(sent["rows_per_s"])
            used = [agent.cpu_seconds() - old for agent, old in zip(cluster.agents, before)]
            cpu.append(sum(used) / len(used) / sent["rows"] * 1e6)
    return [
        Figure(f"load reports, {rate:,} rows/s asked, 3 writers", "rows/s", rates, "higher", rate,
               13_260),
        Figure("the same, CPU per row per node", "µs", cpu, "lower", cpu_target, 53),
        Figure("the same, until all are equal after the last", "s", late, "lower"),
    ]


def _kill(root, folder, runs, _rows):
    """SIGKILL of the writer under load, with a ledger of what it had acknowledged; then a restart."""
    missing, whole = [], []
    for _ in range(runs):
        with fleet.Fleet(root, folder) as cluster:
            victim = cluster.agents[0]
            ledger = folder / "ledger.csv"
            command = [cluster.binary, "bench", "ledger-write", "--agents", victim.api, "--ledger",
                       ledger, "--clients", "16", "--seconds", "0"]
            with subprocess.Popen(command, stdout=subprocess.DEVNULL) as writer:
                try:
                    time.sleep(3)
                    victim.kill()
                finally:
                    writer.kill()
            start = time.monotonic()
            victim.start()
            checks = cluster.bench("ledger-check", "--agents", cluster.apis, "--ledger", ledger,
                                   "--wait", 60, expect_success=False)
            whole.append(time.monotonic() - start)
            missing.append(sum(check["missing"] + check["stale"] for check in checks))
            if any(check["whole"] != "yes" for check in checks):
                print(f"  not whole: {checks}")
    return [
        Figure("SIGKILL of the writer under load: acknowledged rows missing", "rows", missing,
               "lower", 0, 0),
        Figure("the same: all nodes whole after the restart", "s", whole, "lower", 3, 57),
    ]

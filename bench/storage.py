"""storage::Store beside plain SQLite doing the same work in the same run: bench/storage_bench.cc.

A figure's value is Patina's time as a multiple of plain SQLite's, pair by pair (bytes: how many
times plain's); its baseline is plain SQLite's own figure. What plain SQLite does not do has a
figure of its own.
"""

import json
import shutil
import statistics
import subprocess

import report

# Of issue 4, by the beginning of a figure's name; the first that fits counts.
TARGETS = (
    ("local insert into an empty table, 1 row per transaction, 16 transactions", 0.5),
    ("local insert into an empty table, 1 row per transaction", 1.7),
    ("local insert", 2.1),
    ("local update of 3 columns among 100k rows, 1 row per transaction, 16 transactions", 0.5),
    ("local update of 3 columns among 100k rows, 1 row per transaction", 1.7),
    ("local update of 1 column", 1.7),
    ("local update", 2.1),
    ("merge of inserts", 2.0),
    ("merge of 3-column updates, random among 100k rows, 10000 rows", 1.7),
    ("merge of 1-column updates, random among 100k rows, 10000 rows", 1.7),
    ("merge of 3-column updates, random among 100k rows", 1.5),
    ("merge of 1-column updates, random among 100k rows", 1.5),
    ("merge of 3-column updates, random among 1M rows", 1.6),
    ("merge of 1-column updates, random among 1M rows", 1.6),
    ("merge of what is held", 0.15),
    ("file at the writer, log not counted", 1.8),
    ("file at a receiver, log not counted", 1.8),
    ("serving 1M rows by transfer", 400_000),
    ("serving 1M rows by snapshot", 1_000_000),
    ("opening after a kill", 2.0),
)


def run(root, out, quick):
    folder = out / "storage-data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [root / "build/release/bench/storage_bench", root / "fleet/schema.sql", folder]
    command += ["20000", "100000", "3"] if quick else ["100000", "1000000", "5"]
    figures = []
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                figures.append(_figure(json.loads(line)))
                print(f"  {figures[-1].figure}: {report.readable(figures[-1].value)}", flush=True)
        if process.returncode != 0:
            raise SystemExit(f"storage_bench failed with {process.returncode}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return figures


def _figure(measured):
    name, unit = measured["figure"], measured["unit"]
    target = next((value for start, value in TARGETS if name.startswith(start)), None)
    if not measured["plain"]:
        better = "higher" if unit.endswith("/s") else "lower"
        return report.Figure(name, unit, measured["patina"], better, target)
    is_rate = unit.endswith("/s")
    pairs = zip(measured["patina"], measured["plain"] * len(measured["patina"]))
    return report.Figure(
        figure=name,
        unit="x plain's time" if is_rate else "x plain",
        values=[plain / ours if is_rate else ours / plain for ours, plain in pairs],
        better="lower",
        target=target,
        baseline=statistics.median(measured["plain"]),
    )

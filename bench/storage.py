"""storage::Store beside plain SQLite doing the same work in the same run: bench/storage_bench.cc.

A figure's value is Patina's rate as a share of plain SQLite's, pair by pair (bytes: how many times
plain's); its baseline is plain SQLite's own figure.
"""

import json
import shutil
import statistics
import subprocess

import report

# Of the figures that the issues ask for.
TARGETS = {
    "merge of 3 columns into a filled table, 1000 rows per commit": 0.35,
    "merge into an empty table, 1000 rows per commit": 0.35,
    "disk at the writer, log included": 2.5,
    "disk at a receiver, log included": 2.5,
}


def run(root, out, quick):
    folder = out / "storage-data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [root / "build/release/bench/storage_bench", root / "fleet/schema.sql", folder]
    command += ["20000", "3"] if quick else ["100000", "5"]
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
    is_size = measured["unit"] == "bytes/row"
    return report.Figure(
        figure=measured["figure"],
        unit="x plain" if is_size else "x plain's rate",
        values=[ours / plain for ours, plain in zip(measured["patina"], measured["plain"])],
        better="lower" if is_size else "higher",
        target=TARGETS.get(measured["figure"]),
        baseline=statistics.median(measured["plain"]),
    )

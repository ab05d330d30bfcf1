"""What a changed row costs the engine of live queries: bench/subscribe_bench.cc.

A figure's baseline is the first version's own figure (2 shared cores); there is no target.
"""

import json
import shutil
import subprocess

import report

BASELINES = {
    "10,000 queries app = ?, one matches": 3.2,
    "10,000 queries region = 'lhr' AND app = ?, none matches": 0.5,
    "1,000 queries cpu > ?, all match": 1.2,
    "1,000 aggregates that do not read the column": 7.3,
}


def run(root, out, quick):
    folder = out / "subscribe-data"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [root / "build/release/bench/subscribe_bench", folder]
    command += ["2000", "1"] if quick else ["20000", "5"]
    figures = {}
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                measured = json.loads(line)
                name = measured["figure"]
                if name not in figures:
                    figures[name] = report.Figure(figure=name, unit=measured["unit"], values=[], better="lower",
                                                  baseline=BASELINES.get(name))
                figures[name].values.append(measured["value"])
                print(f"  {name}: {report.readable(measured['value'])} {measured['unit']}", flush=True)
        if process.returncode != 0:
            raise SystemExit(f"subscribe_bench failed with {process.returncode}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return list(figures.values())

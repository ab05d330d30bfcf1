"""A fleet of real agents on loopback, for measuring. Ends only the processes it started."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
START_DEADLINE_S = 20


def free_port():
    """A port that was free for TCP and UDP a moment ago."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            with contextlib.suppress(OSError):
                udp.bind(("127.0.0.1", port))
                return port


class Agent:
    """One agent process; may be killed and started again on the same data."""

    def __init__(self, binary, folder, name, region, schema, seed):
        self.binary, self.name = binary, name
        self.data = folder / name
        self.data.mkdir(parents=True)
        self.gossip = f"127.0.0.1:{free_port()}"
        self.api = f"unix:{folder}/{name}.sock"
        self.config = folder / f"{name}.toml"
        self.log = folder / f"{name}.log"
        self.schemas = folder / f"{name}-schemas"  # of its own, so that it can change
        self.schemas.mkdir()
        shutil.copy(schema, self.schemas)
        self.process = None
        seeds = json.dumps([seed] if seed else [])
        self.config.write_text(
            f'[node]\nname = "{name}"\nregion = "{region}"\ndata_dir = "{self.data}"\n'
            f'[schema]\npaths = ["{self.schemas}"]\n'
            f'[gossip]\nlisten = "{self.gossip}"\nseeds = {seeds}\ncluster = "bench"\n'
            f'[api]\nlisten = ["{self.api}"]\n')

    def configure(self, more):
        """More of its configuration, before it starts."""
        self.config.write_text(self.config.read_text() + more)

    def declare(self, after, more):
        """More of its schema, behind a line that is there; `patina schema apply` makes it so."""
        file = self.schemas / "schema.sql"
        file.write_text(file.read_text().replace(after, after + more, 1))

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.binary, "agent", "--config", self.config], stdout=log, stderr=log)
        return self

    def wait_ready(self):
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as unix:
                unix.connect(self.api.removeprefix("unix:"))
                return self
            time.sleep(0.01)
        raise SystemExit(f"{self.name} did not start:\n{self.log.read_text()[-2000:]}")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def rss_mib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def disk_bytes(self):
        return sum(path.stat().st_size for path in self.data.rglob("*") if path.is_file())


class Fleet:
    """Agents of one cluster; a context manager."""

    def __init__(self, root, folder, names=("ams-1", "fra-1", "iad-1")):
        self.binary = root / "build/release/tools/patina"
        self.schema = root / "fleet/schema.sql"
        self.folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self.agents = []
        self.names = names

    def __enter__(self):
        try:
            for name in self.names:
                self.add(name)
            self.wait_members(len(self.names))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for agent in self.agents:
            agent.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def spawn(self, name):
        """One more agent, not started yet."""
        seed = self.agents[0].gossip if self.agents else None
        agent = Agent(self.binary, self.folder, name, name.split("-")[0], self.schema, seed)
        self.agents.append(agent)
        return agent

    def add(self, name):
        return self.spawn(name).start().wait_ready()

    def wait_answer(self, agent):
        """Until it answers a query."""
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            done = subprocess.run([self.binary, "query", "SELECT 1", "--api", agent.api],
                                  capture_output=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.01)
        raise SystemExit(f"{agent.name} does not answer:\n{agent.log.read_text()[-2000:]}")

    def wait_members(self, count):
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            seen = [self._alive_members(agent) for agent in self.agents]
            if all(alive == count for alive in seen):
                return
            time.sleep(0.05)
        raise SystemExit(f"the agents see {seen} members alive, not {count}")

    def _alive_members(self, agent):
        done = subprocess.run(
            [self.binary, "members", "--api", agent.api, "--format", "json"],
            capture_output=True, text=True, check=False)
        members = [json.loads(line) for line in done.stdout.splitlines()]
        return sum(member.get("state") == "alive" for member in members)

    @property
    def apis(self):
        return ",".join(agent.api for agent in self.agents)

    def command(self, agent, *arguments):
        """Runs `patina`; returns what it printed."""
        return subprocess.run([self.binary, *arguments, "--api", agent.api], capture_output=True,
                              text=True, check=True).stdout

    def bench(self, *arguments, expect_success=True):
        """Runs `patina bench`; returns its objects."""
        done = subprocess.run([self.binary, "bench", *map(str, arguments), "--format", "json"],
                              capture_output=True, text=True, check=False)
        if done.returncode != 0 and expect_success:
            raise SystemExit(f"patina bench {' '.join(map(str, arguments))} failed: {done.stderr}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait_equal(self, *arguments):
        return self.bench("wait-equal", "--agents", self.apis, *arguments)[0]

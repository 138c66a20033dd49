"""Three hosts joined by a bridge, with a shared folder and a Ray node each."""

import secrets
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from search.execution.own_ray.folder import BOUNDS
from tests.chaos.hosts import BASE, FURNISH, NETWORK, PREPARE, SHARE, Host, Process

PORT = 6379
"""Of the head."""


class RayHost(Host):
    """A host on the bridge with a Ray node; number 1 has the head.

    Args:
        number: From 1; the last part of its address.
        switch: Has the bridge and the shared folder.
    """

    def __init__(self, number: int, switch: Host):
        super().__init__(f"host{number}", PREPARE, switch)
        self.number = number
        self.address = f"{NETWORK}.{number}"
        self._switch = switch
        inside, outside = self.entering("net"), switch.entering("net")
        link = ["ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0"]
        for command in (
            # A host of this number that was powered off leaves its link for an instant.
            [*outside, "sh", "-c", f"! ip link delete {self.name} 2> /dev/null || true"],
            [*outside, *link, "netns", str(self._first)],
            [*outside, "ip", "link", "set", self.name, "master", "bridge", "up"],
            [*inside, "ip", "address", "add", f"{self.address}/24", "dev", "eth0"],
            [*inside, "ip", "link", "set", "eth0", "up"],
            [*inside, "ip", "route", "add", "default", "via", f"{NETWORK}.254"],
        ):
            subprocess.run(command, check=True)

    def link(self, up: bool) -> None:
        """Plug the cable in, or pull it out."""
        state = "up" if up else "down"
        command = ["ip", "link", "set", self.name, state]
        subprocess.run([*self._switch.entering("net"), *command], check=True)

    def start_ray(self, num_cpus: int) -> None:
        """Start the host's Ray node, after whatever is left of the one before."""
        self.kill("ray")
        head = ["--head", f"--port={PORT}", "--include-dashboard=false"]
        where = head if self.number == 1 else [f"--address={NETWORK}.1:{PORT}"]
        self.run(
            "ray",
            *("ray", "start", *where, f"--node-ip-address={self.address}"),
            *(f"--num-cpus={num_cpus}", "--num-gpus=0", "--object-store-memory=100000000"),
            **BOUNDS,
        )

    def stop_ray(self) -> None:
        """SIGKILL the host's Ray node, and of a head first what tells others who has died."""
        for process in self.processes("ray"):
            if Path(process.command.split()[0]).name == "gcs_server":
                process.signal(signal.SIGKILL)
        self.kill("ray")

    def raylet(self) -> Process | None:
        """Return the Ray node's own process."""
        found = (p for p in self.processes("ray") if Path(p.command.split()[0]).name == "raylet")
        return next(found, None)


class Lan:
    """A switch with the shared folder, and three hosts on it; a context manager.

    Args:
        share_mb: Size of the shared folder.
        cpus: CPUs that Ray is told of, by host.
    """

    def __init__(self, share_mb: int = 64, cpus: tuple[int, ...] = (1, 1, 1)):
        self._cpus = cpus
        BASE.mkdir(exist_ok=True)
        env = {"SHARE_MB": str(share_mb), "TOKEN": secrets.token_hex(32)}
        self.switch = Host("switch", f"{FURNISH}{PREPARE}", env=env)
        self.hosts: list[RayHost] = []

    @property
    def share(self) -> Path:
        """The shared folder as this process sees it; the hosts see SHARE."""
        return self.switch.path(SHARE)

    @property
    def head(self) -> RayHost:
        """The host of the head and of the driver."""
        return self.hosts[0]

    def start(self) -> None:
        """Switch the hosts on and start Ray on them."""
        self.hosts = [RayHost(number, self.switch) for number in (1, 2, 3)]
        self.start_cluster()

    def start_cluster(self) -> None:
        """Start the head, then the other nodes at the same time."""
        self.start_ray(self.head)
        with ThreadPoolExecutor() as threads:
            list(threads.map(self.start_ray, self.hosts[1:]))

    def copy(self, folder: Path, name: str) -> None:
        """Copy a folder into the shared one."""
        shutil.copytree(folder, self.share / name)

    def start_ray(self, host: RayHost) -> None:
        """Start a host's Ray node."""
        host.start_ray(self._cpus[host.number - 1])

    def power_on(self, host: RayHost) -> RayHost:
        """Return a new host in the place of one that was powered off."""
        new = RayHost(host.number, self.switch)
        self.hosts[host.number - 1] = new
        return new

    def __enter__(self) -> "Lan":
        return self

    def __exit__(self, *_: object) -> None:
        for host in [*self.hosts, self.switch]:
            host.power_off()

    def __iter__(self) -> Iterator[RayHost]:
        return iter(self.hosts)

"""Commands on a Ray cluster: on this machine alone, or on many that share their files."""

import logging
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from common.engines.local import CompletedCommand, start, wait
from common.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
# Without a token whoever reaches the ports may run code; see https://docs.ray.io/en/latest/ray-security/token-auth.html
SETTINGS = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
OLDEST = (2, 52)  # that asks for a token
ANSWER_SECONDS = 10.0
CHECK_SECONDS = 60.0  # for every node to answer
RETRIES = 20  # of a run whose worker or node is lost; one that is lost more often is to blame itself


@dataclass
class Ray:
    """Runs on a Ray cluster, as many at a time as it has room for.

    A run that ends with its worker or its node is given again to another; it resumes after its last finished epoch.
    All nodes must see the same files under the same paths: the suite, the data, the output and Python itself.

    Attributes:
        address: of the cluster; None: one is started on this machine, and ends with this process.
        cpus_per_run, gpus_per_run: what a run takes of the cluster.
        output, inputs: what every node must see.
        flags: a run that is given again waits until the lock of the lost one is free.
    """

    address: str | None
    cpus_per_run: int
    gpus_per_run: float
    output: Path
    inputs: Sequence[Path]
    flags: Sequence[str] = ("--wait",)

    def __post_init__(self):
        try:
            found = version("ray")
        except PackageNotFoundError:
            found = ""
        if tuple(map(int, re.findall(r"\d+", found)[:2])) < OLDEST:
            raise UserError(
                f"--engine ray needs Ray {'.'.join(map(str, OLDEST))} or newer{f', not {found}' if found else ''}: "
                'pip install --upgrade "ray>=2.52", or leave --engine out'
            )

    def run(self, commands: Sequence[Sequence[str]], completed: Callable[[CompletedCommand], None]) -> None:
        """As ``common.engines.Engine.run``."""
        ray = self._connect()
        from ray.exceptions import RayError

        nodes = [node for node in ray.nodes() if node["Alive"]]
        self._check_resources(nodes)
        self._check_nodes(ray, nodes)
        environment, folder = dict(os.environ), os.getcwd()
        carry_out = ray.remote(_carry_out).options(
            num_cpus=self.cpus_per_run,
            num_gpus=self.gpus_per_run,
            max_retries=RETRIES,
            scheduling_strategy="SPREAD",
        )
        index_of = {
            carry_out.remote(index, list(command), folder, environment, self.gpus_per_run > 0): index
            for index, command in enumerate(commands)
        }
        waiting = list(index_of)
        while waiting:
            (task, *_), waiting = ray.wait(waiting, num_returns=1)
            try:
                result = ray.get(task)
            except RayError as error:  # lost too often, or a folder that its node does not see
                result = CompletedCommand(index_of[task], 1, "", f"{error}")
            completed(result)
        ray.shutdown()

    def stop(self) -> None:
        """As ``common.engines.Engine.stop``."""
        if ray := sys.modules.get("ray"):
            with suppress(Exception):
                ray.shutdown()

    def _connect(self):
        os.environ.update({name: os.environ.get(name, value) for name, value in SETTINGS.items()})
        import ray

        if self.address:
            _check_address(self.address)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(
                address=self.address or "local",
                include_dashboard=False if self.address is None else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except Exception as error:  # Ray raises many kinds
            where = self.address or "on this machine"
            raise UserError(
                f"no Ray cluster {where} ({error}); start one with ray start, or leave --address out"
            ) from error
        for number, handler in handlers.items():  # Ray has put its own in their place
            signal.signal(number, handler)
        return ray

    def _check_resources(self, nodes: Sequence[Mapping]) -> None:
        for kind, wanted in (("CPU", self.cpus_per_run), ("GPU", self.gpus_per_run)):
            most = max(node["Resources"].get(kind, 0) for node in nodes)
            if wanted > most:
                raise UserError(
                    f"--{kind.lower()}s-per-run {wanted:g}: no node has more than {most:g} {kind}s; ask for less"
                )

    def _check_nodes(self, ray, nodes: Sequence[Mapping]) -> None:
        """Raises UserError if a node does not see the suite, Python, or a folder that all must share."""

        def missing_of(paths: Sequence[str]) -> list[str]:  # travels whole: a node may not have this file
            import os

            return [path for path in paths if not os.path.exists(path)]

        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        token = self.output.resolve() / f".{secrets.token_hex(8)}.token"
        paths = [str(path) for path in (token, ROOT / "common", Path(sys.executable))]
        paths += [str(path.resolve()) for path in self.inputs if path.exists()]
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
        try:
            checks = [
                ray.remote(missing_of)
                .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False))
                .remote(paths)
                for node in nodes
            ]
            ray.wait(checks, num_returns=len(checks), timeout=CHECK_SECONDS)
            for node, check in zip(nodes, checks):
                try:
                    missing = ray.get(check, timeout=1)
                except Exception as error:  # Ray raises many kinds
                    raise UserError(f"the node {node['NodeManagerAddress']} does not answer ({error})") from error
                if missing:
                    what = self.output if missing[0] == str(token) else missing[0]
                    raise UserError(
                        f"the node {node['NodeManagerAddress']} does not see {what}: all nodes must share the suite, "
                        "its Python, the data and --output, under the same paths"
                    )
        finally:
            token.unlink(missing_ok=True)


def _check_address(address: str) -> None:
    """Raises UserError if nobody answers at HOST:PORT; Ray itself would ask again for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(
            f"--address {address}: no Ray cluster there ({error}); start one with ray start, and name its HOST:PORT"
        ) from error


def _carry_out(
    index: int, command: Sequence[str], folder: str, environment: Mapping[str, str], has_gpus: bool
) -> CompletedCommand:
    """In a worker: the command with the environment of the process that asked for it, but for the GPUs it may use."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "") if has_gpus else ""
    return wait(start(command, folder, {**environment, "CUDA_VISIBLE_DEVICES": gpus}), index)

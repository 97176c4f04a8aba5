"""Commands on a Ray cluster: on this machine alone, or on many that share their files."""

import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common.engines.local import Ended, start, wait
from common.errors import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
# Without a token whoever reaches the ports may run code; see https://docs.ray.io/en/latest/ray-security/token-auth.html
SETTINGS = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
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
        output, inputs: folders that every node must see.
    """

    address: str | None
    cpus_per_run: int
    gpus_per_run: float
    output: Path
    inputs: Path

    def run(self, commands: Sequence[Sequence[str]], ended: Callable[[Ended], None]) -> None:
        """As ``common.engines.Engine.run``."""
        ray = self._connect()
        from ray.exceptions import RayError

        self._check_resources(ray.cluster_resources())
        self._check_nodes(ray)
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
                result = Ended(index_of[task], 1, "", f"{error}")
            ended(result)
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

    def _check_resources(self, total: Mapping[str, float]) -> None:
        for kind, wanted in (("CPU", self.cpus_per_run), ("GPU", self.gpus_per_run)):
            if wanted > total.get(kind, 0):
                raise UserError(
                    f"--{kind.lower()}s-per-run {wanted:g}: the cluster has {total.get(kind, 0):g} {kind}s altogether"
                )

    def _check_nodes(self, ray) -> None:
        """Raises UserError if a node does not see the suite, Python, or a folder that all must share."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        token = self.output.resolve() / f".{secrets.token_hex(8)}.token"
        paths = [str(path) for path in (token, ROOT / "common", Path(sys.executable))]
        paths += [str(self.inputs.resolve())] if self.inputs.exists() else []
        nodes = [node for node in ray.nodes() if node["Alive"]]
        token.parent.mkdir(parents=True, exist_ok=True)
        token.touch()
        try:
            checks = [
                ray.remote(_missing)
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
                        "its Python, --data-dir and --output, under the same paths"
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


def _missing(paths: Sequence[str]) -> list[str]:
    return [path for path in paths if not os.path.exists(path)]


def _carry_out(
    index: int, command: Sequence[str], folder: str, environment: Mapping[str, str], has_gpus: bool
) -> Ended:
    """In a worker: the command with the environment of the process that asked for it, but for the GPUs it may use."""
    gpus = {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "")} if has_gpus else {}
    return wait(start(command, folder, {**environment, **gpus}), index)

# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Nova's notifications through RabbitMQ and a relay to the agents of many hosts: how many a minute, at what cost.

    .venv/bin/python -m bench.relay [NUMBER]

They wait in the broker when the relay starts, so that it alone decides. Nova's notifier has told them, one in six is a
delete, and one endpoint with TLS stands for the agents of all hosts.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from functional import broker, running_listener
from functional.endpoint import Endpoint

from bench import nova_beside
from bench.scan import say, table

NUMBER: Final = 10_000
HOSTS: Final = 50
KINDS: Final = 6


def measure(number: int) -> bool:
    """Prints one row for each kind of queue; tells whether each delete came to its host once."""
    table(["queues", "told", "told per minute", "passed on per minute", "calls", "CPU ms each", "MiB"], [])
    rights = [row(queues, number) for queues in ("classic", "quorum")]
    return all(rights)


def row(queues: str, number: int) -> bool:
    """Prints one; tells whether it was right."""
    rabbit = {"classic": "amqp_durable_queues", "quorum": "rabbit_quorum_queue"}[queues]
    with (
        tempfile.TemporaryDirectory(prefix="da-") as place,
        broker.running() as running,
        Endpoint(Path(place)) as agents,
        nova_beside.running("nova_notifier.py", running.url, f"{rabbit} = true") as nova,
    ):
        configuration = running_listener.write_configuration(
            Path(place), running.url, notifications=agents.sections, oslo_messaging_rabbit={rabbit: "true"}
        )
        with running_listener.running(configuration) as relay:  # makes the queue
            relay.listening().stop()
        told = nova.call("flood", number=number, hosts=HOSTS).gives
        passed = _passed_on(configuration, agents, number)
    a_minute = f"{number / told * 60:.0f} | {passed.a_minute:.0f}"
    say(f"| {queues} | {number} | {a_minute} | {agents.calls} | {passed.cpu / number * 1000:.2f} | {passed.mib:.0f} |")
    different = len({*agents.consumers})
    if (len(agents.consumers), different, passed.code) != (number // KINDS, number // KINDS, 0):
        say(f"wrong: {len(agents.consumers)} deletes came, {different} of them different; it ended with {passed.code}")
        return False
    return True


class _Passed(NamedTuple):
    """What a relay did: notifications a minute, seconds of CPU, memory, and its exit code."""

    a_minute: float
    cpu: float
    mib: float
    code: int


def _passed_on(configuration: Path, agents: Endpoint, number: int) -> _Passed:
    """Runs a relay until all deletes among `number` notifications have come to the agents."""
    with running_listener.running(configuration, watchdog_s=0.3) as relay:
        relay.until(lambda: relay.count("received") > 0)
        first, begun = relay.count("received"), time.perf_counter()
        relay.until(lambda: relay.count("received") >= number)
        spent = time.perf_counter() - begun
        relay.until(lambda: len(agents.consumers) >= number // KINDS)
        cpu, mib = _cpu(relay.process.pid), _memory(relay.process.pid)
        return _Passed((number - first) / spent * 60, cpu, mib, relay.stop())


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _memory(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


def main() -> int:
    """Runs it; 1 if something was wrong."""
    arguments = sys.argv[1:]
    return 0 if measure(int(arguments[0]) if arguments else NUMBER) else 1


if __name__ == "__main__":
    sys.exit(main())

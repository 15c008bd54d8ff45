# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent agent`: the order in which the agent comes into being, which is not free.

First the privileged process is forked, while this one has a single thread and little memory. Then all capabilities
are dropped, and oslo.service is told to use threads, before anything of oslo that would choose eventlet is imported.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

from devagent import privileged
from devagent.errors import RootError
from devagent.privileged import capabilities
from devagent.service import host_lock, looking, threads
from devagent.sources.kernel_log import PATH


def run(args: argparse.Namespace) -> int:
    """Runs the agent until it is told to stop; gives its exit code.

    Raises RootError, ConfigurationError, PolicyError, and StateError if another agent works on the same host or state.
    """
    if not Path(args.root).exists():
        raise RootError(f"--root {args.root}: there is no such directory or archive")
    # Until there is a handler: it would end the process, which systemd takes for a clean end.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    helper = privileged.start(
        {"look": partial(looking.serve, root=args.root)},
        root=args.root,
        images=partial(_images, tuple(args.config_file), tuple(args.config_dir)),
    )
    try:
        from devagent.service import settings

        read = partial(settings.read, tuple(args.config_file), tuple(args.config_dir), args.policy)
        in_force, machine = read(), args.root == "/"
        kernel_log = _open_log() if machine and in_force.kernel_log else None
        with host_lock.held(Path(args.root)) if machine else nullcontext():
            capabilities.drop()
            threads.use()
            from devagent.service import logs
            from devagent.service.agent import Agent

            logs.setup(in_force.conf)
            code = Agent(helper, in_force, read, root=Path(args.root), kernel_log=kernel_log).run()
    finally:
        helper.stop()
    # Nothing is left to be done: an idle thread of some library must not hold up the end.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _images(files: Sequence[str], dirs: Sequence[str]) -> Path:
    """Gives where the agent keeps images for FPGAs, as the privileged process reads it itself when it needs one.

    It has forked before the configuration was read, and takes no path from the agent.
    """
    from devagent import conf

    return Path(conf.load(files, dirs).state_path) / "images"


def _open_log() -> Callable[[], int]:
    """Opens the kernel's log while this process may still do so; gives what yields the descriptor, or the error."""
    try:
        descriptor = os.open(PATH, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        failure = error

        def fail() -> int:
            raise failure

        return fail
    return lambda: descriptor

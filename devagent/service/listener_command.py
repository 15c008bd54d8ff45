# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""`devagent listener`: chooses threads, reads the configuration, and runs it."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from functools import partial
from importlib.util import find_spec

from devagent.errors import ConfigurationError
from devagent.service import threads


def run(args: argparse.Namespace) -> int:
    """Runs the listener until it is told to stop; gives its exit code. Raises ConfigurationError."""
    if find_spec("oslo_messaging") is None:
        raise ConfigurationError("the listener needs what is not installed here: pip install '.[listener]'")
    # Until there is a handler: it would end the process, which systemd takes for a clean end.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    threads.use()
    from devagent.service import listener_settings, logs  # noqa: PLC0415 - after the line above
    from devagent.service.listener import ListenerService  # noqa: PLC0415 - as well

    read = partial(listener_settings.read, tuple(args.config_file), tuple(args.config_dir))
    in_force = read()
    logs.setup(in_force.conf)
    code = ListenerService(in_force, read).run()
    # What waits for a broker that is away waits for ever: it must not hold up the end.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)

# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The `devagent` command: runs what its arguments (arguments.py) name, and ends as exit_code.py has it."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path

from devagent.cause import system_words
from devagent.cli.arguments import parser
from devagent.cli.exit_code import FAILED
from devagent.cli.render.printable import printable
from devagent.errors import DevagentError

_TERMINATED = 128 + signal.SIGTERM
# Of those that are no module of devagent.cli by their own name.
_MODULES = {"agent": "devagent.service.command", "listener": "devagent.service.listener_command"}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code; errors that an operator can act on are one line on stderr."""
    args = parser().parse_args(argv)
    if threading.current_thread() is threading.main_thread():
        # So that what it has started ends with it, as with Ctrl-C.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    _prepare_output(debug=args.debug)
    try:
        code = import_module(_MODULES.get(args.command, f"devagent.cli.{args.command}")).run(args)
        sys.stdout.flush()
    except DevagentError as error:
        logging.getLogger(__name__).debug("the error in full", exc_info=True)
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _drop_output()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EBADF, errno.EIO, errno.EDQUOT):
            raise
        _drop_output()
        return _fail(f"the output cannot be written: {system_words(error)}", FAILED)
    except KeyboardInterrupt:
        return 130
    return int(code)


def agent() -> int:
    """Is the command `devagent-agent`."""
    return main(["agent", *sys.argv[1:]])


def listener() -> int:
    """Is the command `devagent-listener`."""
    return main(["listener", *sys.argv[1:]])


def _prepare_output(*, debug: bool) -> None:
    level = logging.DEBUG if debug else logging.WARNING
    logging.basicConfig(level=level, format="devagent: %(levelname)s: %(message)s")
    if not debug:  # what these say of a failure, our own error says in one line
        for name in ("keystoneauth", "stevedore", "urllib3"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - as below
    if sys.stdout is None:  # started with standard output closed
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for the life of the process
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal that cannot draw a character shows a question mark instead of a traceback.
        sys.stdout.reconfigure(errors="replace")


def _drop_output() -> None:
    """Sends what is still buffered nowhere, so that Python does not fail on it when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _fail(message: str, code: int) -> int:
    print(f"devagent: error: {printable(message)}", file=sys.stderr)
    return code

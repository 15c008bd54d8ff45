# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the agent's log goes: to the journal with its facts as fields, else as lines to standard error.

oslo.log decides the levels, and everything if the operator chose one of its ways. What a message is about is given with
it: LOG.info("is given again", extra={"device": "0000:3b:00.0"}); it stands before the message, and as the field
DEVAGENT_DEVICE: journalctl DEVAGENT_DEVICE=0000:3b:00.0. The journal's protocol: systemd.io/JOURNAL_NATIVE_PROTOCOL.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from oslo_log import log

from devagent.api.request_id import current
from devagent.errors import ConfigurationError

PRODUCT: Final = "devagent"
JOURNAL: Final = Path("/run/systemd/journal/socket")
# Attribute of a record, and the journal's field.
_ABOUT: Final = {"device": "DEVAGENT_DEVICE", "instance": "DEVAGENT_INSTANCE", "request_id": "REQUEST_ID"}
_CHOICES: Final = ("log_config_append", "log_file", "log_dir", "use_syslog", "use_journal", "use_json", "log_color")
# From syslog(3): the journal's PRIORITY for records at this level and above.
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG: Final = 7
PATIENCE_S: Final = 0.5
"""How long a message waits for a journal that has no room."""
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def setup(conf: Any, environment: Mapping[str, str] = os.environ) -> None:
    """Sends every record where the configuration says; may be called again with another one.

    Raises ConfigurationError if that place cannot be had; records then go to the journal or standard error.
    """
    root = logging.getLogger()
    before = list(root.handlers)
    if not any(conf[name] for name in _CHOICES) and any(isinstance(each, (Lines, Journal)) for each in before):
        # oslo.log would take our handlers away for a moment, in which other threads' records were lost.
        _set_levels(conf)
        return
    try:
        log.setup(conf, PRODUCT)
    except (log.LogConfigError, OSError, RuntimeError, ValueError) as error:
        root.handlers = [_own(environment)]
        raise ConfigurationError(f"configuration: [DEFAULT] logging: {error}") from None
    finally:
        for handler in before:
            if isinstance(handler, (logging.FileHandler, Journal)):
                handler.close()
    if not any(conf[name] for name in _CHOICES):
        root.handlers = [_own(environment)]
    for handler in root.handlers:
        handler.addFilter(for_whom)


def for_whom(record: logging.LogRecord) -> bool:
    """Notes in a record for which request it is, so that oslo.log's formats have it, too."""
    found = getattr(record, "request_id", None) or current()
    if found:
        record.request_id, record.extra_keys = found, ["request_id"]
    return True


def _set_levels(conf: Any) -> None:
    """Sets the levels as oslo.log does."""
    logging.getLogger().setLevel(logging.DEBUG if conf.debug else logging.INFO)
    for pair in conf.default_log_levels:
        name, _, level = pair.partition("=")
        logging.getLogger(name).setLevel(int(level) if level.isdigit() else level)


def _own(environment: Mapping[str, str]) -> logging.Handler:
    return Journal() if _stderr_is_the_journal(environment) else Lines()


def _stderr_is_the_journal(environment: Mapping[str, str]) -> bool:
    """Tells by JOURNAL_STREAM, device and inode of what systemd connected, whether that still is standard error."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Lines(logging.StreamHandler[Any]):
    """Writes to standard error: `2026-11-21 17:08:44.123 WARNING devagent.x: [0000:3b:00.0] message`."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)
        self.setFormatter(
            _Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")
        )


class _Formatter(logging.Formatter):
    """Makes one line of a message, whatever is in it; a traceback follows on lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Gives the line."""
        record.message = _message(record)
        return super().formatMessage(record)


class Journal(logging.Handler):
    """Sends each record as one datagram to journald; where that is away, to standard error.

    A journal that takes nothing more holds the agent up for a moment only: what is lost then is counted and told.
    """

    def __init__(self, path: Path = JOURNAL) -> None:
        super().__init__()
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._lines = Lines()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Sends one record; never raises."""
        try:
            # Who just had no room is not waited for again.
            self._socket.settimeout(0.0 if self._lost else PATIENCE_S)
            data = encode(_fields(record, self._lost))
            try:
                self._send(data)
                self._lost = 0
            except (TimeoutError, BlockingIOError):
                self._lost += 1
        except OSError:
            self._lines.handle(record)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Gives the socket back."""
        self._socket.close()
        super().close()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(data)

    def _send_file(self, data: bytes) -> None:
        """Sends what is too long for a datagram as a sealed file in memory, as the protocol has it."""
        file = os.memfd_create(PRODUCT, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(file, "wb", closefd=False) as stream:
                stream.write(data)
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, _SEALS)
            passed = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", file))
            self._socket.sendmsg([], [passed], 0, self._path)
        finally:
            os.close(file)


def encode(fields: Mapping[str, str]) -> bytes:
    """Gives the datagram: NAME=value on a line, or NAME on one, then the length in 8 bytes, and the value."""
    parts = []
    for name, text in fields.items():
        value = text.encode("utf-8", "backslashreplace")
        if b"\n" in value:
            parts.append(b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(value)), value))
        else:
            parts.append(b"%s=%s\n" % (name.encode(), value))
    return b"".join(parts)


def _fields(record: logging.LogRecord, lost: int) -> dict[str, str]:
    message = _message(record)
    fields = {
        "MESSAGE": f"{message} ({lost} messages before this one were lost: the journal took none)" if lost else message,
        "PRIORITY": str(next((number for level, number in _PRIORITIES if record.levelno >= level), _DEBUG)),
        "SYSLOG_IDENTIFIER": PRODUCT,
        "LOGGER": record.name,
        "THREAD_NAME": record.threadName or "",
        "CODE_FILE": record.pathname,
        "CODE_LINE": str(record.lineno),
        "CODE_FUNC": record.funcName or "",
    }
    fields |= {field: str(getattr(record, name)) for name, field in _ABOUT.items() if getattr(record, name, None)}
    if record.exc_info and record.exc_info[0]:
        fields["EXCEPTION_TEXT"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _message(record: logging.LogRecord) -> str:
    """Gives the message in one line, with what it is about before it and the exception after it."""
    about = "".join(f"[{getattr(record, name)}] " for name in _ABOUT if getattr(record, name, None))
    error = record.exc_info[1] if record.exc_info else None
    why = f": {type(error).__name__}: {error}" if error else ""
    return one_line(f"{about}{record.getMessage()}{why}")


def one_line(text: str) -> str:
    """Gives `text` with what ends a line, or moves a terminal's cursor, written out: devices may tell anything."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What becomes of a message: in the journal, on standard error, where the operator wants it; and no secret in it."""

from __future__ import annotations

import array
import fcntl
import logging
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from functional import keystone
from functional.servers import error, serving

from devagent.api.request_id import answering
from devagent.service.logs import PATIENCE_S, Journal, Lines, for_whom

REPOSITORY = Path(__file__).parents[3]
Fields = dict[str, bytes]


def parse(data: bytes) -> Fields:
    """Reads the journal's protocol as its specification says, both forms."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if equals:
            data = rest
        else:
            (length,) = struct.unpack("<Q", rest[:8])
            value, data = rest[8 : 8 + length], rest[9 + length :]
            assert rest[8 + length : 9 + length] == b"\n"
        fields[name.decode()] = value
    return fields


class Journald:
    """The journal's end of the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.line.bind(str(path))
        self.line.settimeout(10)

    def read(self) -> Fields:
        """Gives the next entry."""
        data, ancillary, _, _ = self.line.recvmsg(1 << 20, socket.CMSG_SPACE(4))
        if not ancillary:
            return parse(data)
        assert data == b""
        ((_, _, passed),) = ancillary
        with open(array.array("i", passed)[0], "rb") as file:  # noqa: PTH123
            seals = fcntl.fcntl(file, fcntl.F_GET_SEALS)
            assert seals == fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            file.seek(0)
            return parse(file.read())


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    running = Journald(tmp_path / "socket")
    yield running
    running.line.close()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[logging.Logger]:
    logger, handler = logging.Logger("devagent.test"), Journal(tmp_path / "socket")
    logger.addHandler(handler)
    yield logger
    handler.close()


def test_a_message_is_one_entry_with_its_facts_as_fields(journald: Journald, log: logging.Logger) -> None:
    log.warning("lost %d of 16 lanes", 8, extra={"device": "0000:3b:00.0", "request_id": "req-1"})
    fields = journald.read()
    assert int(fields.pop("CODE_LINE")) > 0
    assert fields.pop("CODE_FILE").decode() == __file__
    assert fields == {
        "MESSAGE": b"[0000:3b:00.0] [req-1] lost 8 of 16 lanes",
        "PRIORITY": b"4",
        "SYSLOG_IDENTIFIER": b"devagent",
        "LOGGER": b"devagent.test",
        "THREAD_NAME": b"MainThread",
        "CODE_FUNC": b"test_a_message_is_one_entry_with_its_facts_as_fields",
        "DEVAGENT_DEVICE": b"0000:3b:00.0",
        "REQUEST_ID": b"req-1",
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.DEBUG, b"7"),
        (logging.INFO, b"6"),
        (logging.WARNING, b"4"),
        (logging.ERROR, b"3"),
        (logging.CRITICAL, b"2"),
    ],
)
def test_levels_are_syslogs_priorities(journald: Journald, log: logging.Logger, level: int, priority: bytes) -> None:
    log.log(level, "x")
    assert journald.read()["PRIORITY"] == priority


def test_an_exception_is_named_in_the_message_and_stands_whole_in_a_field(
    journald: Journald, log: logging.Logger
) -> None:
    try:
        raise ValueError("no\nsuch thing")
    except ValueError:
        log.exception("the look failed", extra={"instance": "i-1"})
    fields = journald.read()
    assert fields["MESSAGE"] == b"[i-1] the look failed: ValueError: no\\nsuch thing"
    assert fields["DEVAGENT_INSTANCE"] == b"i-1"
    assert fields["EXCEPTION_TEXT"].startswith(b"Traceback (most recent call last):\n")
    assert fields["EXCEPTION_TEXT"].endswith(b"ValueError: no\nsuch thing")


def test_what_a_device_tells_makes_no_field_of_its_own(journald: Journald, log: logging.Logger) -> None:
    log.info("serial %s", "1\nPRIORITY=0\x1b[2J\udc9b", extra={"device": "a\nLOGGER=x"})
    fields = journald.read()
    assert fields["MESSAGE"] == rb"[a\nLOGGER=x] serial 1\nPRIORITY=0\x1b[2J\udc9b"
    assert (fields["PRIORITY"], fields["LOGGER"]) == (b"6", b"devagent.test")
    assert fields["DEVAGENT_DEVICE"] == b"a\nLOGGER=x"


def test_what_is_too_long_for_a_datagram_goes_as_a_file(journald: Journald, log: logging.Logger) -> None:
    log.info("%s", "x" * 3_000_000)
    assert journald.read()["MESSAGE"] == b"x" * 3_000_000


def test_where_the_journal_is_away_standard_error_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger, handler = logging.Logger("devagent.test"), Journal(tmp_path / "socket")
    logger.addHandler(handler)
    logger.warning("first")
    journald = Journald(tmp_path / "socket")
    logger.warning("second")
    assert journald.read()["MESSAGE"] == b"second"
    journald.line.close()
    handler.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING devagent.test: first")


def test_a_journal_that_takes_nothing_holds_nobody_up_and_the_loss_is_told(
    journald: Journald, log: logging.Logger
) -> None:
    sent = 1000
    began = time.monotonic()
    for number in range(sent):
        log.info("%d", number)
    took = time.monotonic() - began
    journald.line.setblocking(False)
    received = 0
    with pytest.raises(BlockingIOError):
        while journald.read():
            received += 1
    assert 0 < received < sent
    assert took < (sent - received) * PATIENCE_S / 10
    log.info("then")
    expected = f"then ({sent - received} messages before this one were lost: the journal took none)"
    assert journald.read()["MESSAGE"] == expected.encode()
    log.info("and on")
    assert journald.read()["MESSAGE"] == b"and on"


def agent(script: str, config: str, tmp_path: Path, *, journal: bool = False) -> subprocess.CompletedProcess[str]:
    """Runs a process that sets up its log as the agent does, and then `script`."""
    file = tmp_path / "devagent.conf"
    file.write_text(config)
    setup = "import logging, sys; from devagent import conf; from devagent.service import logs; "
    setup += f"c = conf.load([{str(file)!r}], strict=True); logs.setup(c); LOG = logging.getLogger('devagent.test')\n"
    with (tmp_path / "stderr").open("w+") as stderr:
        status = os.fstat(stderr.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journal else None
        ran = subprocess.run(
            [sys.executable, "-c", setup + script],
            cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=60,
        )  # fmt: skip
        stderr.seek(0)
        return subprocess.CompletedProcess(ran.args, ran.returncode, ran.stdout, stderr.read())


SAY = "LOG.debug('d'); LOG.info('said', extra={'device': '0000:3b:00.0'})"


def test_elsewhere_messages_are_lines_on_standard_error(tmp_path: Path) -> None:
    ran = agent(SAY, "", tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "")
    (line,) = ran.stderr.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO devagent.test: \[0000:3b:00.0\] said", line)


def test_debug_says_more(tmp_path: Path) -> None:
    assert len(agent(SAY, "[DEFAULT]\ndebug = true\n", tmp_path).stderr.splitlines()) == 2


def test_the_journal_is_used_where_systemd_connected_standard_error_to_it(tmp_path: Path) -> None:
    say = "import logging; print([type(each).__name__ for each in logging.getLogger().handlers])"
    assert agent(say, "", tmp_path, journal=True).stdout == "['Journal']\n"
    assert agent(say, "", tmp_path).stdout == "['Lines']\n"


def test_an_operators_choice_of_oslo_log_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "devagent.log"
    ran = agent(SAY, f"[DEFAULT]\nlog_file = {file}\n", tmp_path, journal=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "said" in file.read_text()


def test_a_log_file_that_cannot_be_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    """As after a reload: what was in force is gone, so standard error has to do."""
    script = (
        f"c.set_override('log_file', '{tmp_path}/nowhere/x.log')\n"
        "try:\n    logs.setup(c)\nexcept Exception as error:\n    LOG.error('%s', error)\n"
    )
    lines = agent(script + SAY, "", tmp_path).stderr.splitlines()
    assert len(lines) == 2
    assert "configuration: [DEFAULT] logging: " in lines[0]
    assert f"{tmp_path}/nowhere/x.log" in lines[0]
    assert "said" in lines[1]


def test_a_second_setup_replaces_the_first_and_leaves_no_file_open(tmp_path: Path) -> None:
    script = "import os\nbefore = len(os.listdir('/proc/self/fd'))\nfor _ in range(50): logs.setup(c)\n"
    script += "print(len(os.listdir('/proc/self/fd')) - before, len(logging.getLogger().handlers))"
    for config, journal in (("", True), (f"[DEFAULT]\nlog_file = {tmp_path}/a.log\n", False), ("", False)):
        assert agent(script, config, tmp_path, journal=journal).stdout == "0 1\n"


def test_a_reload_changes_the_level_and_loses_nothing_that_other_threads_say_meanwhile(tmp_path: Path) -> None:
    script = (
        "import threading\n"
        "stop = threading.Event()\nsaid = 0\n"
        "def say():\n    global said\n    while not stop.is_set():\n        LOG.info('said'); said += 1\n"
        "talker = threading.Thread(target=say); talker.start()\n"
        "for _ in range(200): logs.setup(c)\n"
        "stop.set(); talker.join()\n"
        "c.set_override('debug', True); logs.setup(c); LOG.debug('more'); print(said)"
    )
    ran = agent(script, "", tmp_path)
    assert ran.stderr.count(" said\n") == int(ran.stdout)
    assert ran.stderr.endswith(" DEBUG devagent.test: more\n")


def test_no_secret_is_logged_by_those_who_talk_to_keystone(tmp_path: Path) -> None:
    """Even with everything at its loudest."""
    with serving(error(500)) as nowhere, keystone.serving(keystone.Keystone(nowhere)) as identity:
        config = (
            "[DEFAULT]\ndebug = true\ndefault_log_levels = keystoneauth=DEBUG,urllib3=DEBUG,requests=DEBUG\n"
            f"[placement]\nauth_type = password\nauth_url = {identity.url}/v3\npassword = {keystone.PASSWORD}\n"
            "username = devagent\nuser_domain_name = Default\nproject_name = service\nproject_domain_name = Default\n"
            "region_name = RegionOne\nvalid_interfaces = internal\nconnect_retries = 0\n"
        )
        script = (
            "from devagent.placement import client\n"
            "try:\n    client.from_conf(c).tree('x')\nexcept Exception:\n    LOG.exception('x')\n"
        )
        ran = agent(script, config, tmp_path)
        (token,) = identity.tokens
    assert "Making authentication request" in ran.stderr
    assert "REQ: curl" in ran.stderr
    assert keystone.PASSWORD not in ran.stderr
    assert token not in ran.stderr


def test_lines_are_lines_whatever_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.Logger("devagent.test")
    logger.addHandler(Lines())
    logger.warning("a\nb\x1b[2J %s", "\u202e")
    assert capsys.readouterr().err.splitlines()[0].endswith(r"WARNING devagent.test: a\nb\x1b[2J \u202e")


@pytest.mark.parametrize("config", ["", "[DEFAULT]\nlog_file = {}/a.log\nuse_json = true\n"])
def test_what_is_said_for_a_request_carries_its_id_wherever_the_log_goes(tmp_path: Path, config: str) -> None:
    script = (
        "from devagent.api.request_id import answering\n"
        "LOG.info('before')\n"
        "with answering('req-1'):\n    LOG.info('within'); logging.getLogger('urllib3').error('elsewhere')\n"
        "LOG.info('after')"
    )
    said = agent(script, config.format(tmp_path), tmp_path).stderr
    if "log_file" in config:
        said = (tmp_path / "a.log").read_text()
    lines = said.splitlines()
    assert ["req-1" in line for line in lines] == [False, True, True, False]


def test_the_journal_finds_what_was_said_for_a_request_by_its_id(journald: Journald, tmp_path: Path) -> None:
    logger, handler = logging.Logger("devagent.test"), Journal(tmp_path / "socket")
    handler.addFilter(for_whom)
    logger.addHandler(handler)
    with answering("req-1"):
        logger.info("within")
    assert journald.read()["REQUEST_ID"] == b"req-1"
    logger.info("after")
    assert "REQUEST_ID" not in journald.read()
    handler.close()

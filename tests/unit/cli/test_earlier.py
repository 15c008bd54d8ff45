# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devagent.cli.difference import differences
from devagent.cli.earlier import read
from devagent.cli.render import json as as_json
from devagent.cli.render import yaml as as_yaml
from devagent.document import document
from devagent.errors import ConfigurationError
from devagent.view import Look

from .pictures import gpu, look, nic, troubled


def never(path: Path) -> Look:
    raise AssertionError(f"{path} is no capture")


@pytest.mark.parametrize("form", [as_json, as_yaml], ids=["json", "yaml"])
def test_what_discover_printed_is_read_again(tmp_path: Path, form: object) -> None:
    path = tmp_path / "earlier"
    path.write_text(form.render(look(gpu(), nic())) + "\n")  # type: ignore[attr-defined]
    assert differences(read(path, never), document(look(gpu(), nic()))) == []


def test_hostile_names_are_the_same_names(tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(as_json.render(troubled()))
    assert differences(read(path, never), document(troubled())) == []


@pytest.mark.parametrize("name", ["host.tar", "host.tar.gz", "host.tar.xz", "host.tar.bz2", "host.tgz"])
def test_a_capture_is_looked_at(tmp_path: Path, name: str) -> None:
    seen = look(gpu(), nic())
    assert read(tmp_path / name, lambda path: seen if path.name == name else never(path)) == document(seen)


def test_a_directory_is_a_capture(tmp_path: Path) -> None:
    assert read(tmp_path, lambda _: look()) == document(look())


WRONG = {
    "nothing": "",
    "a number": "7",
    "a list": "[]",
    "a text": "hello",
    "neither": "{a: [}",
    "a report": "{}",
    "another version": '{"schema_version": 2, "devices": []}',
    "a version that is none": '{"schema_version": true, "devices": []}',
    "no devices": '{"schema_version": 1}',
    "devices that are none": '{"schema_version": 1, "devices": 7}',
    "devices that are texts": '{"schema_version": 1, "devices": ["a"]}',
    "a device without address": '{"schema_version": 1, "devices": [{}]}',
    "problems that are none": '{"schema_version": 1, "devices": [], "problems": [1]}',
    "notes that are none": '{"schema_version": 1, "devices": [], "notes": {"a": 1}}',
    "too deep": "[" * 100_000,
    "too deep in YAML": "- " * 100_000,
    "aliases": "schema_version: 1\ndevices: &a []\nproblems: *a\n",
    "itself": "&a {schema_version: 1, devices: [*a]}",
    "python": "!!python/object/apply:os.system [id]",
    "a date that is none": "schema_version: 2024-13-45",
    "control characters": "a: \x07",
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_document_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    path = tmp_path / "file"
    path.write_text(WRONG[what])
    with pytest.raises(ConfigurationError) as caught:
        read(path, never)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_code == 2


def test_what_is_no_file_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        read(tmp_path / "absent", never)
    (tmp_path / "binary").write_bytes(b"\xff\x00\xfe")
    with pytest.raises(ConfigurationError, match="neither text nor a capture"):
        read(tmp_path / "binary", never)
    for name in ("a\0b", "x" * 300):
        with pytest.raises(ConfigurationError):
            read(tmp_path / name, never)


def test_a_document_of_an_earlier_devagent_may_have_less(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(json.dumps({"schema_version": 1, "devices": [{"address": "0000:3b:00.0", "driver": "x"}]}))
    found = differences(read(path, never), document(look(gpu())))
    assert [each.sign for each in found] == ["~", "-", "+"]

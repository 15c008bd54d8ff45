# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong in a configuration file is said with the file, the section and the option; the sample is current."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from devagent import conf, conf_check
from devagent.errors import ConfigurationError

REPOSITORY = Path(__file__).parents[2]
GENERATOR = "etc/devagent/config-generator.conf"
SAMPLE = "etc/devagent/devagent.conf.sample"

NEAR = "there is no plugin passwrd (did you mean password?)"
STATES = "Valid values are [ignore, suspect, unhealthy], but found"
NUMBER = "is no XID: a number is wanted, as in 79:unhealthy,13:ignore"
DOLLAR = "what follows $ in it is no option; a $ that means itself is written $$"
AUTH = """
[placement]
auth_type = password
auth_url = https://keystone.example.org/v3
username = devagent
password = secret
project_name = service
user_domain_name = Default
project_domain_name = Default
region_name = RegionOne
valid_interfaces = internal
cafile = /etc/ssl/ca.pem
connect_retries = 2
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "devagent.conf"


def load(file: Path, text: str, *, strict: bool = True) -> Any:
    file.write_text(text)
    return conf.load([str(file)], strict=strict)


def refused(file: Path, text: str, *, strict: bool = True) -> str:
    """Gives what is said of a file, after what must be said of each: that it is the configuration, and which file."""
    with pytest.raises(ConfigurationError) as caught:
        load(file, text, strict=strict)
    said = str(caught.value)
    assert "\n" not in said
    start = f"configuration: {file}: "
    assert said.startswith(start)
    return said.removeprefix(start)


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    empty = load(tmp_path / "devagent.conf", "")
    assert (empty.state_path, empty.host) == ("/var/lib/devagent", None)
    assert (empty.inventory.scan_interval, empty.inventory.debounce) == (300, 0.2)
    assert empty.health.xids == {}
    assert empty.api.unix_socket == "/run/devagent/devagent.sock"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[DEFAULT]\nhots = a\n", "[DEFAULT] hots: there is no such option (did you mean host?)"),
        ("[health]\nflap_limits = 1\n", "[health] flap_limits: there is no such option (did you mean flap_limit?)"),
        ("[inventory]\nxids = 79:ignore\n", "[inventory] xids: there is no such option (it belongs in [health])"),
        ("[api]\nzzzz = 1\n", "[api] zzzz: there is no such option"),
        ("[images]\ndirectori = /x\n", "[images] directori: there is no such option (did you mean directory?)"),
        ("[glance]\nauth_type = passwrd\n", f"[glance] auth_type: {NEAR}"),
        ("[glance]\nauth_tipe = password\n", "[glance] auth_tipe: there is no such option (did you mean auth_type?)"),
        ("[placment]\nauth_type = x\n", "[placment]: there is no such section (did you mean placement?)"),
        (f"{AUTH}auth-url = x\n", "[placement] auth-url: there is no such option (did you mean auth_url?)"),
        ("[placement]\nauth_type = passwrd\n", f"[placement] auth_type: {NEAR}"),
        (f"{AUTH}timeout = soon\n", "[placement] timeout: 'soon' is no number"),
        ("[DEFAULT]\nuse_json = perhaps\n", "[DEFAULT] use_json: Unexpected boolean value 'perhaps'"),
    ],
)  # fmt: skip
def test_what_nobody_knows_is_wrong_where_that_is_asked_for(file: Path, text: str, said: str) -> None:
    assert refused(file, text) == said
    assert load(file, text, strict=False) is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[inventory]\nnest = x\n", "[inventory] nest: Valid values are [numa, pcie, flat], but found 'x'"),
        ("[Inventory]\nscan_interval = 0\n", "[Inventory] scan_interval: Should be greater than or equal to 1"),
        ("[health]\ninterval = 5m\n", "[health] interval: '5m' is no number"),
        ("[inventory]\ndebounce = nan\n", "[inventory] debounce: is no finite number"),
        ("[api]\nthreads = 100000\n", "[api] threads: Should be less than or equal to 1024"),
        ("[health]\nxids = 79:broken\n", f"[health] xids: {STATES} 'broken'"),
        ("[health]\nxids = x:ignore\n", f"[health] xids: 'x' {NUMBER}"),
        ("[DEFAULT]\nstate_path = $nowhere/x\n", f"[DEFAULT] state_path: {DOLLAR}"),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_wrong_always(file: Path, text: str, said: str) -> None:
    assert refused(file, text, strict=True) == said
    assert refused(file, text, strict=False) == said


def test_everything_wrong_in_a_file_is_said_at_once(file: Path) -> None:
    said = refused(file, "[health]\ninterval = 0\nxids = 1\n[api]\nport = 1\n")
    assert [part.partition(":")[0] for part in said.split("; ")] == ["[api] port", "[health] interval", "[health] xids"]


def test_glance_may_have_the_credentials_of_placement_or_its_own(file: Path) -> None:
    for text in ("[glance]\nauth_section = placement\nregion_name = RegionOne\n", AUTH.replace("placement", "glance")):
        assert load(file, AUTH + text) is not None


def test_a_line_that_is_none_is_named_by_its_number(file: Path) -> None:
    file.write_text("[DEFAULT]\nhost = a\nwhatever\n")
    with pytest.raises(ConfigurationError, match=rf"^configuration: at {file}:3, .*'whatever'$"):
        conf.load([str(file)])


def test_the_file_that_is_wrong_is_named_and_not_another_that_has_the_section_too(tmp_path: Path) -> None:
    for name, text in (("a", "interval = 60"), ("b", "interval = x"), ("c", "clean_checks = 2")):
        (tmp_path / f"{name}.conf").write_text(f"[health]\n{text}\n")
    with pytest.raises(ConfigurationError, match=f"^configuration: {tmp_path}/b.conf: "):
        conf.load([], [str(tmp_path)])


def test_a_secret_is_not_said(file: Path) -> None:
    said = refused(file, AUTH.replace("secret", "hush$hush"))
    assert said == f"[placement] password: {DOLLAR}"


def test_what_keystoneauth_and_logging_know_is_known(file: Path) -> None:
    read = load(file, f"[DEFAULT]\ndebug = true\nlog_file = x.log\n{AUTH}")
    assert read.debug is True
    assert load(file, AUTH.replace("password = secret", "password = hush$$hush")) is not None


def test_deprecated_names_of_keystoneauth_are_known(file: Path) -> None:
    text = (
        AUTH.replace("username", "user_name").replace("project_name", "tenant_name").replace("auth_type", "auth_plugin")
    )
    assert load(file, text) is not None


def test_the_options_of_the_plugin_that_is_named_are_known(file: Path) -> None:
    text = "[placement]\nauth_type = v3applicationcredential\napplication_credential_secret = x\n"
    assert load(file, text) is not None
    assert "application_credential_secret" in refused(file, text.replace("v3applicationcredential", "v2password"))


def test_the_plugin_may_be_named_in_another_file_and_stand_in_another_section(tmp_path: Path) -> None:
    (tmp_path / "10.conf").write_text("[placement]\nauth_section = Keystone\n")
    (tmp_path / "20.conf").write_text("[keystone]\nauth_type = admin_token\n")
    (tmp_path / "30.conf").write_text("[keystone]\nendpoint = http://x\ntoken = t\n")
    assert conf.load([], [str(tmp_path)], strict=True) is not None
    (tmp_path / "40.conf").write_text("[keystone]\nencpoint = http://x\n")
    with pytest.raises(ConfigurationError, match=r"40.conf: \[keystone\] encpoint: .*did you mean endpoint"):
        conf.load([], [str(tmp_path)], strict=True)


def test_a_later_file_wins_and_all_are_told(tmp_path: Path, file: Path) -> None:
    file.write_text("[health]\ninterval = 10\nxids = 79:ignore\n")
    folder = tmp_path / "conf.d"
    folder.mkdir()
    (folder / "10.conf").write_text("[health]\ninterval = 20\n")
    (folder / "notes.txt").write_text("no configuration")
    read = conf.load([str(file)], [str(folder)])
    assert (read.health.interval, read.health.xids) == (20, {79: "ignore"})
    assert conf.files([str(file)], [str(folder)]) == (file, folder / "10.conf")


def test_a_change_of_the_file_does_not_reach_what_was_read(file: Path) -> None:
    before = load(file, "[health]\ninterval = 10\n")
    load(file, "[health]\ninterval = 20\n")
    assert before.health.interval == 10


def test_every_option_says_what_it_does_and_has_a_default_that_it_accepts() -> None:
    for group, options in conf.list_opts():
        for option in options:
            assert option.help and option.help.endswith((".", ")")), f"[{group}] {option.name}"
            assert option.default is None or option.type(option.default) == option.default


def test_the_sample_is_current(tmp_path: Path) -> None:
    generator = Path(sys.executable).with_name("oslo-config-generator")
    made = tmp_path / "sample"
    command: list[str | Path] = [generator, "--config-file", GENERATOR, "--output-file", made]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    assert (REPOSITORY / SAMPLE).read_text() == made.read_text(), (
        f"run: oslo-config-generator --config-file {GENERATOR}"
    )


def test_the_sample_is_a_configuration_that_changes_nothing(file: Path) -> None:
    shutil.copy(REPOSITORY / SAMPLE, file)
    read = conf.load([str(file)], strict=True)
    for group, options in conf.list_opts():
        for option in options:
            assert (read if group == "DEFAULT" else read[group])[option.dest] == option.default


def test_the_sections_of_other_libraries_are_checked_like_ours(file: Path) -> None:
    file.write_text("[keystone_authtoken]\nauth_type = password\nauth_url = http://k/v3\npasword = x\n")
    with pytest.raises(ConfigurationError, match=r"\[keystone_authtoken\] pasword: .*did you mean password"):
        conf.load([str(file)], strict=True)
    file.write_text("[oslo_policy]\npolicy_fil = x\n")
    with pytest.raises(ConfigurationError, match=r"\[oslo_policy\] policy_fil: .*did you mean policy_file"):
        conf.load([str(file)], strict=True)


def test_what_needs_a_library_that_is_not_there_says_which(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(conf_check._ON_DEMAND, "oslo_policy", "not.installed")
    file.write_text("[oslo_policy]\n")
    conf.load([str(file)], strict=True)
    file.write_text("[oslo_policy]\npolicy_file = x\n")
    with pytest.raises(ConfigurationError, match=r"\[oslo_policy\]: needs .*\.\[keystone\]"):
        conf.load([str(file)], strict=True)

# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Callers with tokens: which rule decides about which call."""

from __future__ import annotations

from pathlib import Path

import pytest
from oslo_config import cfg
from oslo_policy.policy import Enforcer

from devagent.api import policy
from devagent.api.operations import OPERATIONS, Who
from devagent.errors import ConfigurationError


@pytest.fixture
def conf(tmp_path: Path) -> cfg.ConfigOpts:
    found = cfg.ConfigOpts()
    (tmp_path / "devagent.conf").touch()  # policy.yaml is looked for beside it
    found([], project="devagent", default_config_files=[str(tmp_path / "devagent.conf")], default_config_dirs=[])
    return found


def may(enforcer: Enforcer, method: str, *roles: str) -> set[bool]:
    creds = {"roles": list(roles)}
    rules = [
        each.rule for each in OPERATIONS if each.method == method and each.who is not Who.PUBLIC and not each.decides
    ]
    return {bool(enforcer.enforce(rule, {}, creds)) for rule in rules}


def test_services_may_do_everything_admins_may_look_and_nobody_else_may_anything(conf: cfg.ConfigOpts) -> None:
    enforcer = policy.enforcer(conf)
    for method in ("GET", "PUT", "DELETE", "POST"):
        assert may(enforcer, method, "service") == {True}
        assert may(enforcer, method, "admin", "manager") == {method == "GET"}
        assert may(enforcer, method, "reader", "member") == {False}


def test_only_an_admin_may_say_that_a_device_needs_no_wiping(conf: cfg.ConfigOpts) -> None:
    enforcer = policy.enforcer(conf)
    assert [each.rule for each in OPERATIONS if each.decides] == ["devagent:preparations:forget"]
    for role, expected in (("admin", True), ("service", False), ("member", False)):
        assert bool(enforcer.enforce("devagent:preparations:forget", {}, {"roles": [role]})) is expected


def test_every_call_but_the_versions_has_a_rule_of_its_own() -> None:
    rules = [each.rule for each in OPERATIONS]
    assert len(set(rules)) == len(rules)
    names = {rule.name for rule in policy.list_rules()}
    assert names == {*rules, policy.LOOK, policy.ACT, policy.DECIDE} - {"devagent:versions:list"}


def test_policy_yaml_changes_one_rule_or_all_of_a_kind_also_while_the_agent_runs(
    conf: cfg.ConfigOpts, tmp_path: Path
) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('"devagent:look": "role:reader"\n')
    enforcer = policy.enforcer(conf)
    assert may(enforcer, "GET", "reader") == {True}
    file.write_text('"devagent:rescan:start": "role:operator and project_id:p"\n')
    creds = {"roles": ["operator"], "project_id": "p"}
    assert enforcer.enforce("devagent:rescan:start", {}, creds)
    assert not enforcer.enforce("devagent:rescan:start", {}, {**creds, "project_id": "q"})
    assert may(enforcer, "GET", "reader") == {False}


@pytest.mark.parametrize("text", ["a: [b", "- a\n"])
def test_a_policy_that_cannot_be_read_is_told_with_its_file(conf: cfg.ConfigOpts, tmp_path: Path, text: str) -> None:
    (tmp_path / "policy.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"\[oslo_policy\] policy_file: policy.yaml: "):
        policy.enforcer(conf)

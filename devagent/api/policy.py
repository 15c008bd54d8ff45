# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""What roles a call needs that comes with a token: oslo.policy's rules, one per operation of the table.

All of them go back to three: `devagent:look`, `devagent:act` and `devagent:decide`. policy.yaml may change these or
single ones; `oslopolicy-sample-generator --namespace devagent` writes one.
"""

from __future__ import annotations

from typing import Any, Final

from oslo_policy import policy

from devagent.api.operations import OPERATIONS, Operation, Who
from devagent.errors import ConfigurationError

LOOK: Final = "devagent:look"
ACT: Final = "devagent:act"
DECIDE: Final = "devagent:decide"
# `reader` is no role for it: whoever has a project has that, and devices are the cloud's, not a project's.
_BASES: Final = (
    policy.RuleDefault(LOOK, "role:service or role:admin", description="Who may look at a compute host's devices."),
    policy.RuleDefault(ACT, "role:service", description="Who may change what a compute host's devices are or hold."),
    policy.RuleDefault(DECIDE, "role:admin", description="Who may say that a device needs no wiping, or is lost."),
)


def list_rules() -> list[policy.RuleDefault]:
    """Gives all rules, for oslo.policy's own tools."""
    return [*_BASES, *(_rule(each) for each in OPERATIONS if each.who is not Who.PUBLIC)]


def enforcer(conf: Any) -> policy.Enforcer:
    """Gives what decides by the rules and the policy.yaml that `conf` ([oslo_policy]) names; it sees when that changes.

    Raises ConfigurationError.
    """
    found = policy.Enforcer(conf)
    found.register_defaults(list_rules())
    try:
        found.load_rules()
    except Exception as error:  # of YAML, of a rule, of a file that cannot be read
        file = conf.oslo_policy.policy_file
        raise ConfigurationError(f"configuration: [oslo_policy] policy_file: {file}: {error}") from None
    return found


def _rule(operation: Operation) -> policy.DocumentedRuleDefault:
    base = DECIDE if operation.decides else LOOK if operation.method == "GET" else ACT
    where: Any = [{"path": operation.path, "method": operation.method}]
    return policy.DocumentedRuleDefault(operation.rule, f"rule:{base}", operation.summary, where)

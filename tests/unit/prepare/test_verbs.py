# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""The table of verbs: every inverse is a verb, and the inverse of the inverse is the step itself."""

from __future__ import annotations

import pytest

from devagent.model.plan import Step
from devagent.prepare.verbs import VERBS, Verb, inverse


@pytest.mark.parametrize("verb", VERBS.values(), ids=str)
def test_an_inverse_takes_the_same_arguments_and_has_the_verb_as_its_own(verb: Verb) -> None:
    if verb.inverse is not None:
        back = VERBS[verb.inverse]
        assert (back.inverse, back.arguments) == (verb.name, verb.arguments)


def test_a_step_is_taken_back_by_the_inverse_on_the_same_target() -> None:
    step = Step("create_mdev", "0000:3b:00.0", {"type": "t", "uuid": "u"}, {"type": "t", "uuid": "u"})
    back = inverse(step)
    assert back == Step("remove_mdev", "0000:3b:00.0", {"type": "t", "uuid": "u"}, {"type": "t", "uuid": "u"})
    assert back is not None
    assert inverse(back) == step


@pytest.mark.parametrize(
    "step", [Step("reset", "0000:3b:00.0", {"method": None}), Step("program_fpga", "0000:3b:00.0", {"digest": "d"})]
)
def test_what_cannot_be_taken_back_has_no_inverse(step: Step) -> None:
    assert inverse(step) is None

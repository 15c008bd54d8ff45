# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which faults are made, and that what no test notices is told."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools.mutants import mutants

TOP = Path(__file__).parents[3]


def faults(source: str) -> list[str]:
    """Gives what becomes of the source by each fault, as one line."""
    changed = []
    for number, _ in enumerate(mutants(ast.parse(source))):
        tree = ast.parse(source)
        list(mutants(tree))[number].put()
        compile(tree, "mutant", "exec")
        changed.append(" ".join(ast.unparse(tree).split()))
    return changed


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["a <= b", "a >= b"]),
        ("a and b and c", ["a or b or c", "b and c", "a and c", "a and b"]),
        ("not a", ["a"]),
        ("a | b", ["a", "b", "a & b"]),
        ("f(a, *b, c=d)", ["pass", "f(a, c=d)", "f(a, *b)", "f(a, *(), c=d)"]),
        ("a.lower()", ["pass", "a.upper()"]),
        ("x = any(a)", ["x = all(a)"]),
        ("x = a[b:c]", ["x = a[:c]", "x = a[b:]"]),
        ("x = 1, 0, True", ["x = (2, 0, True)", "x = (0, 0, True)", "x = (1, 1, True)", "x = (1, 0, False)"]),
        ("x = 'a'", ["x = 'XXa'"]),
        ("x = 'a b', f'{a} b'", []),
        ("x.y = a", ["pass"]),
        ("x: 'int' = a", []),
        ("x = a if b else c", ["x = a if not b else c", "x = a if True else c", "x = a if False else c"]),
        ("x = [a for a in b if a]", ["x = [a for a in b if not a]", "x = [a for a in b if True]"]),
        ("def f(): return a", ["def f(): return None"]),
        ("def f(): yield a", ["def f(): yield from ()"]),
        ("for a in b: continue", ["for a in b: pass", "for a in b: break"]),
        ("match a:\n case b.c: d", ["match a: case b.c if False: d"]),
        ('"""a"""', []),
    ],
)
def test_each_small_fault_is_made_once(source: str, expected: list[str]) -> None:
    assert faults(source) == expected


def test_a_fault_says_where_it_is_and_what_it_changes() -> None:
    source = "class A:\n    def f(self, a=1):\n        return [lambda: a is None]\nB = 7\n"
    assert [str(each) for each in mutants(ast.parse(source))] == [
        "2: outside: constant: 1 -> 2",
        "2: outside: constant: 1 -> 0",
        "3: A.f: return: return [lambda: a is None] -> return None",
        "3: A.f: compared: a is None -> a is not None",
        "4: outside: constant: 7 -> 8",
        "4: outside: constant: 7 -> 6",
    ]


SHOP = """\
MOST = 3


class Shop:
    name = "shop"

    def price(self, amount):
        return amount * 2 if amount < MOST else amount
"""
TEST = """\
import shop


def test_few_cost_double():
    assert [shop.Shop().price(amount) for amount in (2, 4)] == [4, 4]
"""


def test_what_no_test_notices_is_told_and_all_else_is_counted(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "test_shop.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tools.mutating", "--mutate=shop.py", "test_shop.py"]
    done = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(TOP)}, capture_output=True, text=True)
    assert [line for line in done.stdout.splitlines() if line.startswith("shop.py:")] == [
        "shop.py:1: outside: constant: 3 -> 4",
        "shop.py:8: Shop.price: compared: amount < MOST -> amount <= MOST",
        "shop.py: 10 of 12 mutants killed by 1 tests; 1 could not be put in",
    ], done.stderr

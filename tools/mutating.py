# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Says which small faults in a module no test notices: `python -m pytest -p tools.mutating --mutate=FILE TESTS`.

Each fault is put into a fork of the process that has collected the tests, as the code of the function around it or as
the value of a constant; there the tests run, the quickest first, until one fails. What stands in a class, or is a
parameter's default, cannot be changed so.
"""

from __future__ import annotations

import ast
import gc
import importlib
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TextIO

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import HealthCheck, settings

from tools.mutants import Mutant, mutants

Functions = dict[tuple[str, int], list[FunctionType]]

_SURVIVED, _KILLED, _NOT_PUT = 0, 1, 3
# What generates whole hosts (tests/conftest.py) is too slow to be asked about each mutant.
_SLOW = frozenset({"host_tree", "discovery"})


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the option that names the modules to change, as paths from here."""
    parser.addoption("--mutate", action="append", type=Path, default=[], metavar="FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Takes over the run if there is something to change."""
    if config.getoption("mutate"):
        config.pluginmanager.register(_Mutating(config.getoption("mutate"), sys.stdout))


class _Mutating:
    def __init__(self, files: list[Path], out: TextIO) -> None:
        self.files, self.out, self.seconds = files, out, dict[pytest.Item, float]()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        few: dict[str, Any] = {"max_examples": 8, "derandomize": True, "database": None, "deadline": None}
        settings.register_profile("mutating", suppress_health_check=list(HealthCheck), **few)
        settings.load_profile("mutating")
        for item in (each for each in session.items if not _SLOW & set(getattr(each, "fixturenames", ()))):
            begun = time.perf_counter()
            if not _fails([item], skipped=True):
                self.seconds[item] = time.perf_counter() - begun
        gc.disable()  # in a child it would copy all memory that is shared with this process
        for file in self.files:
            self._mutate(file, importlib.import_module(".".join(file.with_suffix("").parts)))
        return True

    def _mutate(self, file: Path, module: ModuleType) -> None:
        """Says what survives in one module, and how many were killed."""
        tree, functions, count = ast.parse(file.read_text()), _alive(str(module.__file__)), Counter[int]()
        for mutant in mutants(tree):
            status = self._attempt(mutant, tree, module, functions)
            count[status] += 1
            if status == _SURVIVED:
                print(f"{file}:{mutant}", file=self.out, flush=True)
        killed = count.total() - count[_SURVIVED] - count[_NOT_PUT]
        told = f"{killed} of {killed + count[_SURVIVED]} mutants killed by {len(self.seconds)} tests"
        print(f"{file}: {told}; {count[_NOT_PUT]} could not be put in", file=self.out, flush=True)

    def _attempt(self, mutant: Mutant, tree: ast.Module, module: ModuleType, functions: Functions) -> int:
        """Gives the status of a child in which the mutant lives; one that hangs is ended by the alarm."""
        self.out.flush()
        child = os.fork()
        if child == 0:
            status = _KILLED
            try:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(int(5 + 10 * sum(self.seconds.values())))
                os.dup2(os.open(os.devnull, os.O_RDWR), 1)
                mutant.put()
                put = _put_code(mutant, tree, functions) if mutant.function else _put_value(mutant, tree, module)
                status = _NOT_PUT if not put else int(_fails(sorted(self.seconds, key=self.seconds.__getitem__)))
            finally:
                os._exit(status)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _fails(items: list[pytest.Item], *, skipped: bool = False) -> bool:
    for item, following in zip(items, [*items[1:], None], strict=True):
        item._initrequest()  # type: ignore[attr-defined]
        reports = runtestprotocol(item, log=False, nextitem=following)
        if any(report.failed or (skipped and report.skipped) for report in reports):
            return True
    return False


def _alive(file: str) -> Functions:
    """Gives the functions of a file by qualified name and first line, all that live of each."""
    found = defaultdict(list)
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and each.__code__.co_filename == file:
            found[each.__code__.co_qualname, each.__code__.co_firstlineno].append(each)
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def _put_code(mutant: Mutant, tree: ast.Module, functions: Functions) -> bool:
    for code in _codes(compile(tree, "mutant", "exec", dont_inherit=True)):
        for live in functions.get((code.co_qualname, code.co_firstlineno), ()):
            if code.co_qualname == mutant.function and code.co_freevars == live.__code__.co_freevars:
                live.__code__ = code
                return True
    return False


def _put_value(mutant: Mutant, tree: ast.Module, module: ModuleType) -> bool:
    (top,) = (each for each in tree.body if any(node is mutant.new for node in ast.walk(each)))
    match top:
        case ast.Assign([ast.Name(name)], value) | ast.AnnAssign(ast.Name(name), _, ast.expr() as value):
            old, code = vars(module)[name], compile(ast.Expression(value), "mutant", "eval", dont_inherit=True)
            new = eval(code, vars(module))  # noqa: S307
            for other in [each for each in list(sys.modules.values()) if getattr(each, name, None) is old]:
                setattr(other, name, new)
            return True
    return False

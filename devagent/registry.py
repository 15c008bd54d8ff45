# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds and loads the drivers, and keeps the failure of one from touching any other."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from stevedore import ExtensionManager

from devagent.driver import Driver
from devagent.model.claim import Claim, Kind
from devagent.model.pci import Function
from devagent.model.snapshot import Problem
from devagent.model.vendors import vendor_name

LOG = logging.getLogger(__name__)

NAMESPACE = "devagent.drivers"


class Made(NamedTuple):
    """What the drivers made of one function."""

    function: Function
    claim: Claim | None
    problems: tuple[Problem, ...]


class Registry:
    """The drivers in the order in which they are asked: the most specific first, then by name."""

    def __init__(self, drivers: Iterable[Driver], problems: Iterable[Problem] = ()) -> None:
        self.problems = tuple(problems)
        self.drivers = tuple(sorted(drivers, key=lambda driver: (-driver.specificity, driver.name)))

    def reads(self, function: Function) -> frozenset[str] | None:
        """Gives the sysfs files wanted for `function`, or None if no driver recognises it."""
        recognising = [driver for driver in self.drivers if _recognises(driver, function)]
        if not recognising:
            return None
        return frozenset(pattern for driver in recognising for pattern in driver.reads)

    def asks(self, function: Function) -> frozenset[str]:
        """Gives the files that are to be read apart, since the device itself answers."""
        return frozenset(pattern for driver in self.drivers if _recognises(driver, function) for pattern in driver.asks)

    def claims(
        self, functions: Mapping[str, Function], made: dict[str, Made] | None = None
    ) -> tuple[dict[str, Claim], list[Problem]]:
        """Lets each function, VFs and bridges left out, be claimed by the most specific driver.

        A driver that raises leaves its device claimed as unknown (kind `other`, nothing offered). `made` holds by
        address what was claimed last time, and is brought up to date: a driver is pure, so what it said of the very
        same Function it would say again.
        """
        claims: dict[str, Claim] = {}
        problems = list(self.problems)
        before, now = made or {}, {}
        for function in functions.values():
            if function.is_bridge or function.physfn is not None:
                continue
            address = function.address
            earlier = before.get(address)
            now[address] = same = earlier if earlier and earlier.function is function else self._made(function)
            problems += same.problems
            if same.claim is not None:
                claims[address] = same.claim
        if made is not None:
            made.clear()
            made.update(now)
        return claims, problems

    def _made(self, function: Function) -> Made:
        problems: list[Problem] = []
        return Made(function, self._claim(function, problems), tuple(problems))

    def _claim(self, function: Function, problems: list[Problem]) -> Claim | None:
        for driver in self.drivers:
            try:
                claim = driver.claim(function) if driver.recognises(function) else None
                if claim is not None and not isinstance(claim, Claim):
                    raise TypeError(f"claim() gave {type(claim).__name__}, no Claim")
            except Exception as error:  # a driver is a plug-in: whatever it raises stays with its device
                LOG.debug("driver %s failed on %s", driver.name, function.address, exc_info=True)
                failure = f"driver {driver.name} failed: {_describe(error)}"
                problems.append(Problem(driver.name, function.address, failure))
                return _unknown(driver.name, function, failure)
            if claim is not None:
                return claim
        return None


def load() -> Registry:
    """Loads every installed driver; one that cannot be loaded is left out and named in the problems."""
    problems: list[Problem] = []

    def failed(_manager: object, entry_point: object, error: BaseException) -> None:
        name = getattr(entry_point, "name", str(entry_point))
        problems.append(Problem(name, None, f"driver cannot be loaded: {_describe(error)}"))

    extensions: Iterable[Any] = ExtensionManager(NAMESPACE, invoke_on_load=True, on_load_failure_callback=failed)
    drivers = []
    for extension in extensions:
        fault = _fault(extension.obj)
        if fault is None:
            drivers.append(extension.obj)
        else:
            problems.append(Problem(extension.name, None, f"driver cannot be used: {fault}"))
    if not drivers:
        problems.append(Problem("registry", None, "no driver is installed: install devagent with pip, do not copy it"))
    return Registry(drivers, problems)


def _fault(driver: object) -> str | None:
    """Says what makes `driver` none by the contract; None if nothing does."""
    if not isinstance(driver, Driver):
        return "it is no devagent.driver.Driver"
    if not isinstance(getattr(driver, "name", None), str):
        return "it has no name"
    if not isinstance(getattr(driver, "specificity", None), int):
        return "it has no specificity"
    for name, patterns in (("reads", driver.reads), ("asks", driver.asks)):
        if not isinstance(patterns, tuple) or not all(isinstance(pattern, str) for pattern in patterns):
            return f"its {name} are no tuple of texts"
    return None


def _recognises(driver: Driver, function: Function) -> bool:
    try:
        return driver.recognises(function)
    except Exception:  # claims() meets the same error and reports it with the device
        LOG.debug("driver %s failed on %s", driver.name, function.address, exc_info=True)
        return True


def _unknown(driver: str, function: Function, failure: str) -> Claim:
    return Claim(
        driver=driver,
        address=function.address,
        kind=Kind.OTHER,
        vendor=vendor_name(function.vendor_id),
        model=f"[{function.device_id}]",
        failure=failure,
    )


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

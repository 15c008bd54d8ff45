# SPDX-FileCopyrightText: The devagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds what is wrong in a configuration file, and says it with the file, the section and the option.

oslo.config ignores what it does not know, and names the last file that has a section where a value of it is wrong. So
each file is read here once by itself. Whose options are known is asked as oslo-config-generator asks: the entry points
`oslo.config.opts` of ours and of oslo.log, and where a file has their sections of keystonemiddleware and oslo.policy;
those of the plugin that `auth_type` names come from keystoneauth's.
"""

from __future__ import annotations

import copy
import difflib
import functools
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import Any, Final

from oslo_config import cfg, iniparser

from devagent.cause import system_words
from devagent.errors import ConfigurationError

Groups = Iterable[tuple[str | None, Sequence[cfg.Opt]]]
Sections = Mapping[str, Mapping[str, Sequence[str]]]

DEFAULT: Final = "DEFAULT"
SERVICES: Final = ("placement", "glance")
_FOREIGN: Final = ("devagent.placement", "devagent.glance", "oslo.log")
KEYSTONE: Final = "keystone_authtoken"
# Known only where a file has them: the entry point by section, of what the extra keystone installs.
_ON_DEMAND: Final = {KEYSTONE: "keystonemiddleware.auth_token", "oslo_policy": "oslo.policy"}
# The listener's alone, of what the extra listener installs: nobody else looks into them, since what knows their options
# chooses eventlet for the process that asks.
_MESSAGING: Final = "oslo.messaging"
_MESSAGING_SECTIONS: Final = "oslo_messaging_"
# "... from LocationInfo(location=<Locations.user: (4, True)>, detail='/etc/devagent/devagent.conf') ..."
_LOCATION: Final = re.compile(r"LocationInfo\(.*?detail='(.*?)'\)")
# As Python's int and float say it.
_NUMBER: Final = re.compile(r"(?:invalid literal for int\(\) with base 10|could not convert string to float): (.*)")
_PLUGINS: Final = "keystoneauth1.plugin"
_TYPE: Final = ("auth_type", "auth_plugin")


class _Known:
    """The options by section and name; a deprecated name leads to the same option."""

    def __init__(self, groups: Groups) -> None:
        self.by_section: dict[str, dict[str, cfg.Opt]] = {}
        for group, options in groups:
            self.add(group or DEFAULT, options)

    def add(self, section: str, options: Iterable[cfg.Opt]) -> None:
        """Adds the options of a section; what another has added under the same name is replaced."""
        names = self.by_section.setdefault(section, {})
        for given in options:
            option = copy.copy(given)
            option.required = False  # another file may have it, or another plugin need it
            names |= {(old.name or option.dest).replace("-", "_"): option for old in option.deprecated_opts}
            names[option.dest] = option

    def options(self, section: str) -> list[cfg.Opt]:
        """Gives the options of a section, each once."""
        return [option for name, option in self.by_section[section].items() if name == option.dest]


def check(paths: Iterable[Path], groups: Groups, *, strict: bool, messaging: bool = False) -> None:
    """Reads each file by itself. With `strict`, what is unknown in one is wrong; with `messaging`, in all its sections.

    Raises ConfigurationError with everything that is wrong in the first file in which something is.
    """
    parsed = {path: _parse(path) for path in paths}
    if not messaging:
        parsed = {path: _without_messaging(sections) for path, sections in parsed.items()}
    wanted = {_normal(section) for sections in parsed.values() for section, given in sections.items() if given}
    known = _Known([*groups, *(_foreign(wanted, messaging) if strict else ())])
    if strict:
        _add_plugins(known, parsed.values())
    for path, sections in parsed.items():
        faults = [*(_unknown(known, sections) if strict else ()), *_bad_values(path, known, sections)]
        if faults:
            raise ConfigurationError(f"configuration: {path}: {'; '.join(faults)}")


def inside(folder: Path) -> list[Path]:
    """Gives the files of a directory that oslo.config reads, in its order. Raises ConfigurationError."""
    try:
        return [path for path in sorted(folder.iterdir()) if path.suffix == ".conf"]
    except OSError as error:
        raise ConfigurationError(f"configuration: {folder}: {system_words(error)}") from None


def register_logging(conf: cfg.ConfigOpts) -> None:
    """Lets a configuration have oslo.log's options; before it is read, since some are command-line options there."""
    from oslo_log import log  # noqa: PLC0415 - a quick command does not wait for it

    log.register_options(conf)


@contextmanager
def one_line() -> Iterator[None]:
    """Turns an error of oslo.config into a ConfigurationError of one line."""
    try:
        yield
    except (cfg.Error, ValueError) as error:
        raise ConfigurationError(f"configuration: {_plain(error)}") from None


def _parse(path: Path) -> dict[str, dict[str, list[str]]]:
    _readable(path)
    sections: dict[str, dict[str, list[str]]] = {}
    try:
        cfg.ConfigParser(str(path), sections).parse()
    except iniparser.ParseError as error:
        raise ConfigurationError(f"configuration: {_plain(error)}") from None
    return sections


def _readable(path: Path) -> None:
    """Reads a file once, since oslo.config's own words do not name one that cannot be read."""
    try:
        path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"configuration: {path}: {system_words(error)}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"configuration: {path}: is not UTF-8 text") from None


def _without_messaging(sections: Sections) -> dict[str, dict[str, list[str]]]:
    return {
        section: {name: list(values) for name, values in given.items()}
        for section, given in sections.items()
        if not section.lower().startswith(_MESSAGING_SECTIONS)
    }


def _foreign(wanted: Collection[str], messaging: bool) -> Iterator[tuple[str | None, Sequence[cfg.Opt]]]:
    names = (
        *_FOREIGN,
        *(name for section, name in _ON_DEMAND.items() if section in wanted),
        *([_MESSAGING] if messaging else ()),
    )
    for name in names:
        for point in _points("oslo.config.opts").select(name=name):
            yield from point.load()()


@functools.cache
def _points(group: str) -> EntryPoints:
    """Gives the entry points of a group, of everything installed: to find them takes longer than all else here."""
    return entry_points(group=group)


def _add_plugins(known: _Known, files: Collection[Sections]) -> None:
    """Adds what the authentication plugins know that `auth_type` names, in the sections in which they may stand.

    One file may name the plugin and another hold the password.
    """
    for group in (each for each in (*SERVICES, KEYSTONE) if each in known.by_section):
        places = [group, *(value.lower() for value in _given(files, (group,), ("auth_section",)))]
        for plugin in _given(files, places, _TYPE):
            for point in _points(_PLUGINS).select(name=plugin):
                options = [_option(each) for each in point.load()().get_options()]
                for place in places:
                    known.add(place, [known.by_section[group][_TYPE[0]], *options])


def _given(files: Iterable[Sections], places: Collection[str], names: Collection[str]) -> list[str]:
    """Gives the values that options have in any of the files, the last of each section."""
    return [
        values[-1]
        for sections in files
        for title, given in sections.items()
        for name, values in given.items()
        if title.lower() in places and name in names
    ]


def _option(option: Any) -> cfg.Opt:
    """Makes an option of oslo.config of one of keystoneauth's."""
    old = [cfg.DeprecatedOpt(each.dest) for each in option.deprecated]
    return cfg.Opt(option.dest, type=option.type, deprecated_opts=old)


def _unknown(known: _Known, sections: Sections) -> Iterator[str]:
    for section, given in sections.items():
        names = known.by_section.get(_normal(section))
        if names is None and _normal(section) in _ON_DEMAND:
            if given:
                yield f"[{section}]: needs what is not installed here: pip install '.[keystone]'"
            continue
        if names is None:
            yield f"[{section}]: there is no such section{_near(section, known.by_section)}"
            continue
        for name in given:
            if name not in names:
                elsewhere = [other for other in known.by_section if name in known.by_section[other]]
                hint = f" (it belongs in [{elsewhere[0]}])" if elsewhere else _near(name, names)
                yield f"[{section}] {name}: there is no such option{hint}"


def _near(name: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _bad_values(path: Path, known: _Known, sections: Sections) -> Iterator[str]:
    conf = cfg.ConfigOpts()
    for section in known.by_section:
        conf.register_opts(known.options(section), None if section == DEFAULT else section)
    with one_line():
        conf(args=[], default_config_files=[str(path)], default_config_dirs=[], use_env=False)
    for section, given in sections.items():
        names = known.by_section.get(_normal(section), {})
        for name in given:
            if name in names and (fault := _fault(conf, _normal(section), names[name])):
                yield f"[{section}] {name}: {fault}"


def _fault(conf: cfg.ConfigOpts, section: str, option: cfg.Opt) -> str:
    """Says what is wrong with a value. Secrets are plain text, of which nothing is said but that its $ is wrong."""
    try:
        value = (conf if section == DEFAULT else conf[section])[option.dest]
    except (cfg.NoSuchOptError, cfg.NoSuchGroupError, cfg.TemplateSubstitutionError):
        return "what follows $ in it is no option; a $ that means itself is written $$"
    except (cfg.Error, ValueError) as error:
        return _NUMBER.sub(r"\1 is no number", _plain(error).rpartition(" is not valid: ")[2])
    if option.dest == _TYPE[0] and value not in (plugins := _points(_PLUGINS).names):
        return f"there is no plugin {value}{_near(value, plugins)}"
    return "is no finite number" if isinstance(value, float) and not math.isfinite(value) else ""


def _normal(section: str) -> str:
    """Gives a section's name as oslo.config compares it."""
    return section if section == DEFAULT else section.lower()


def _plain(error: Exception) -> str:
    """Gives an error of oslo.config without the classes in which it says where something stands."""
    return " ".join(_LOCATION.sub(r"\1", str(error)).split())

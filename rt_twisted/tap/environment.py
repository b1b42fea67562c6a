"""
Settings from the environment: `RT_PORT` is `port`, `RT_PUBLISH_KEY` is `publish-key`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from rt_twisted.tap.setting_values import PREFIX, GivenValue, variable_name
from rt_twisted.tap.settings import SETTINGS

CONFIG = f"{PREFIX}CONFIG"  # the file of --config
INTERNAL = f"{PREFIX}TWISTED_"  # variables that worker processes inherit

# Kubernetes, and Docker with --link, set these for a service whose name begins with "rt".
_LINK = re.compile(
    r"RT_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PORT|PROTO|ADDR))?)"
)
_LINKED = re.compile(r"(tcp|udp|sctp)://")  # the value of RT_PORT for a service named "rt"


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """
    What the environment sets.

    Args:
        given: the values of each setting.
        config: the path of the settings file; None if it is not set.
        unknown: variables that name no setting.
        links: variables that a container system has set for a service.
    """

    given: Mapping[str, list[GivenValue]]
    config: str | None = None
    unknown: Collection[str] = ()
    links: Collection[str] = ()

    def notes(self, used: Collection[str]) -> Iterator[str]:
        """
        Yield one sentence for each variable that has no effect.

        Args:
            used: variables that settings refer to, as `env:NAME`.
        """
        for name in self.unknown:
            if name not in used:
                near = get_close_matches(name, [*map(variable_name, SETTINGS), CONFIG], 1)
                hint = f"; did you mean {near[0]}?" if near else ""
                yield f"{name} in the environment names no setting{hint}"
        if self.links:
            yield (
                f"ignored links to services in the environment: {', '.join(self.links)}; "
                "Kubernetes sets none with enableServiceLinks: false"
            )


NOTHING = EnvironmentSettings({})


def read_environment(environment: Mapping[str, str]) -> EnvironmentSettings:
    """
    Return what the variables of *environment* set.

    A repeatable setting has one value in each line. An empty variable sets nothing: compose
    files pass variables on that are not set as empty ones.
    """
    names = {variable_name(name): name for name in SETTINGS}
    given: dict[str, list[GivenValue]] = {}
    unknown: list[str] = []
    links: list[str] = []
    for variable in sorted(environment):
        text = environment[variable].strip()
        if not variable.startswith(PREFIX) or variable.startswith(INTERNAL) or variable == CONFIG:
            continue
        if _LINK.fullmatch(variable) or (variable.endswith("_PORT") and _LINKED.match(text)):
            links.append(variable)
        elif variable not in names:
            unknown.append(variable)
        elif text:
            given[names[variable]] = list(_values(names[variable], variable, text))
    return EnvironmentSettings(given, environment.get(CONFIG) or None, unknown, links)


def _values(name: str, variable: str, text: str) -> Iterator[GivenValue]:
    if not SETTINGS[name].repeated:
        yield GivenValue(text, variable)
        return
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield GivenValue(line.strip(), f"{variable}:{number}" if len(lines) > 1 else variable)

"""
Errors about settings, with the place where each was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rt_twisted.tap.options import Options
from rt_twisted.tap.setting_values import SettingError, located


def setting_error(options: Options, name: str, text: str) -> SettingError:
    """
    Return an error with *text* and the place where the setting *name* was given.
    """
    place = (options.places[name] or ["default"])[-1]
    return SettingError(f"{located(name, place)}: {text}")


def error_at(options: Mapping[str, Any], name: str, index: int, text: str) -> SettingError:
    """
    Return an error with *text* and the place where the value *index* of *name* was given.
    """
    places = getattr(options, "places", {}).get(name) or ["default"]
    return SettingError(f"{located(name, places[index])} {text}")

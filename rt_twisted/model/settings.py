"""
Settings as the layers below `tap` read them, to build what the settings describe.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from rt_twisted.model.retention import Retention


class GivenSettings(Protocol):
    """
    The values of all settings by name, for the factories of brokers and exporters.
    """

    def __getitem__(self, name: str, /) -> Any:
        """
        Return the value of the setting *name*, or its default.
        """

    def given(self, name: str) -> bool:
        """
        Return whether *name* is set by the file or the command line.
        """

    @property
    def folder(self) -> str:
        """
        The folder that relative paths of the settings begin at.
        """


class ConfigError(Exception):
    """
    Raised for a setting that cannot be used.

    Args:
        name: the setting's.
        reason: one sentence, without secrets.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def read_retention(settings: Mapping[str, Any] | GivenSettings) -> Retention:
    """
    Return what each channel retains.
    """
    return Retention(settings["history"], settings["history-bytes"], settings["history-age"])

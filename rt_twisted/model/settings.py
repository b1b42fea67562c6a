"""
Settings as the layers below `tap` read them, to build what the settings describe.
"""

from __future__ import annotations

from typing import Any, Protocol

from rt_twisted.model.retention import Retention


class SettingValues(Protocol):
    """
    The values of all settings by name.
    """

    def __getitem__(self, name: str, /) -> Any:
        """
        Return the value of the setting *name*, or its default.
        """


class GivenSettings(SettingValues, Protocol):
    """
    The settings as the factories of brokers and exporters get them.
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


def read_retention(settings: SettingValues) -> Retention:
    """
    Return what each channel retains.
    """
    return Retention(
        count=settings["history"],
        bytes=settings["history-bytes"],
        age=settings["history-age"],
        live_bytes=settings["live-bytes"],
        live_seconds=settings["live-seconds"],
    )

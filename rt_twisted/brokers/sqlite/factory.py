"""
Builds the broker with a history file from the settings.
"""

from __future__ import annotations

import os
from typing import Any

from rt_twisted.brokers.sqlite.broker import SqliteBroker
from rt_twisted.brokers.sqlite.database import UnusableStore
from rt_twisted.brokers.sqlite.files import check_ownership
from rt_twisted.brokers.sqlite.store import Store
from rt_twisted.model.retention import Retention
from rt_twisted.model.settings import ConfigError, GivenSettings, read_retention


def build_broker(reactor: Any, settings: GivenSettings) -> SqliteBroker:
    """
    Build the embedded broker that stores its history in a file.

    Raises:
        ConfigError: the history file cannot be used.
    """
    path = os.path.abspath(settings["history-file"])  # twistd changes the folder as it daemonizes
    if not os.path.isdir(os.path.dirname(path)):
        raise ConfigError("history-file", f"{path}: there is no such folder")
    try:
        check_ownership(path)
    except UnusableStore as error:
        raise ConfigError("history-file", str(error)) from None

    def open_store(retention: Retention) -> Store:
        return Store(path, retention, settings["history-file-size"], reactor.seconds)

    refuse = settings["unwritable"] == "refuse"
    return SqliteBroker(reactor, path, open_store, read_retention(settings), refuse)

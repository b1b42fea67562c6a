"""
Opens the log files that the settings name.
"""

from __future__ import annotations

from rt_twisted.tap.logfiles import LogFile, Owner
from rt_twisted.tap.options import Options
from rt_twisted.tap.setting_errors import setting_error
from rt_twisted.tap.setting_values import SettingError


def open_access_log(options: Options) -> LogFile | None:
    """
    Open the access log; None without one.
    """
    return _open_setting(options, "access-log")


def open_audit_log(options: Options) -> LogFile | None:
    """
    Open the audit log; None without one.
    """
    return _open_setting(options, "audit-log")


def open_log(options: Options) -> LogFile | None:
    """
    Open the log file of twistd's options; return None if twistd itself must log.
    """
    twistd = options.twistd
    if twistd is None or options["check"]:
        return None
    path = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    rejected = path == "-" and not twistd.get("nodaemon")  # by twistd
    if rejected or twistd.get("syslog") or twistd.get("logger"):
        return None
    try:
        return LogFile(path, _owner(options))
    except OSError as error:
        raise SettingError(f"--logfile: {path}: {error.strerror}") from None


def _open_setting(options: Options, name: str) -> LogFile | None:
    """
    Open the log file that the setting *name* names; None if it is unset.
    """
    path = options[name]
    try:
        return LogFile(path, _owner(options)) if path else None
    except OSError as error:
        raise setting_error(options, name, f"{path}: {error.strerror}") from None


def _owner(options: Options) -> Owner:
    """
    Return the owner of log files: the user and group of twistd's options.
    """
    twistd = options.twistd or {}
    uid, gid = twistd.get("uid"), twistd.get("gid")
    return -1 if uid is None else uid, -1 if gid is None else gid

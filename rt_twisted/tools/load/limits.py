"""
Limit of open files.
"""

from __future__ import annotations

import resource
from pathlib import Path

from rt_twisted.tools.errors import SetupError

NOFILE = Path("/proc/sys/fs/nr_open")  # what root may raise the limit to


def raise_limit(files: int) -> None:
    """
    Raise this process's limit of open files to *files*, if it is lower.

    Raises:
        SetupError: the process is not permitted to.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < files:
        hard = files  # root may
    if soft == resource.RLIM_INFINITY or soft >= files:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    except (OSError, ValueError):
        raise SetupError(
            f"{files} open files are needed and {hard if hard < files else soft} allowed: "
            f"run it from a root shell after `ulimit -n {files}`, or raise `nofile` in "
            f"/etc/security/limits.conf, and {NOFILE} if that is lower"
        ) from None

"""
The AMQP specification file that txAMQP reads its methods from.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from twisted.logger import Logger
from txamqp.spec import load, load_string

_log = Logger()

# RabbitMQ's extensions of AMQP 0-9-1 that are used.
_REQUIRED = (
    ("connection", "blocked"),
    ("exchange", "bind"),
    ("basic", "nack"),
    ("confirm", "select"),
)


def load_specification(path: str = "") -> Any:
    """
    Read an AMQP specification file.

    Args:
        path: of AMQP 0-9-1 in XML; "" for the file in the package.

    Raises:
        ValueError: the file cannot be used; one sentence.
    """
    if not path:
        return load(str(files(__package__).joinpath("amqp0-9-1.xml")))
    try:
        spec = load_string(Path(path).read_bytes(), path)
        version = spec.major, spec.minor
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from None
    except Exception as error:
        raise ValueError(f"{path} is not an AMQP specification: {error!r}") from None
    if version == (8, 0):
        # cyclone-sse came with this file; RabbitMQ no longer supports the version.
        _log.warn("{path} describes AMQP 0-8: 0-9-1 is used; leave amqp-spec out", path=path)
        return load_specification()
    if version != (0, 9):
        raise ValueError(f"{path} describes another version than AMQP 0-9-1")
    for klass, method in _REQUIRED:
        try:
            spec.classes.byname[klass].methods.byname[method]
        except KeyError:
            raise ValueError(f"{path} lacks {klass}.{method}, which RabbitMQ has") from None
    return spec

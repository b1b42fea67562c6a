"""
Objects by name: built-in ones, and those of users' own modules.
"""

from __future__ import annotations

from collections import OrderedDict

import pytest

from rt_twisted.brokers import BROKERS, EMBEDDED
from rt_twisted.metrics import EXPORTERS
from rt_twisted.model.load_object import find_object


def test_a_name_is_built_in_or_dotted() -> None:
    """
    A table has objects, or dotted names that are imported when they are used; any other name
    with a dot is a user's own. A key of the table may have a dot.
    """
    known = {"a": dict, "later": "collections.OrderedDict", "socket.io": list, "no": "no.such"}

    assert find_object("action", known, "a") is dict
    assert find_object("action", known, "later") is OrderedDict
    assert find_object("action", known, "socket.io") is list
    assert find_object("action", known, "collections.OrderedDict") is OrderedDict
    with pytest.raises(ValueError, match=r"unknown action 'b'; there are: a, later, no, socket.io"):
        find_object("action", known, "b")
    with pytest.raises(ValueError, match=r"cannot load no.such: no module 'no'"):
        find_object("action", known, "no")


@pytest.mark.parametrize("known", [BROKERS, EXPORTERS])
def test_each_broker_and_exporter_can_be_found(known: dict[str, str]) -> None:
    """
    The dotted names of the tables are those of functions.
    """
    assert all(callable(find_object("object", known, name)) for name in known)
    assert BROKERS.keys() > EMBEDDED

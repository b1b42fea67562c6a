"""
Claims of a node whose broker grants none.
"""

from __future__ import annotations

import pytest

from rt_twisted.hub.local_claims import LocalClaims
from tests.contracts.brokers import ClaimsContract


class TestLocalClaims(ClaimsContract):
    """
    LocalClaims fulfils the contract of claims, for the publishers of one node.
    """

    @pytest.fixture
    def broker(self) -> LocalClaims:
        """
        The claims of a node.
        """
        return LocalClaims()

    @pytest.fixture
    def other(self, broker: LocalClaims) -> LocalClaims:
        """
        The same node.
        """
        return broker

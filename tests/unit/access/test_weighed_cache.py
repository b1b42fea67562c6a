"""
A cache that is bounded by number and by bytes.
"""

from __future__ import annotations

from rt_twisted.access.weighed_cache import WeighedCache


def test_the_oldest_values_are_removed() -> None:
    """
    Above the number, and above the bytes; a value that is replaced counts once.
    """
    cache = WeighedCache[str](3, 100)
    for key in b"a", b"b", b"c", b"d":
        cache.put(key, key.decode(), 10)
    assert (cache.get(b"a"), cache.get(b"d"), len(cache), cache.bytes) == (None, "d", 3, 30)
    cache.put(b"b", "B", 60)
    assert cache.oldest() == (b"c", "c")
    cache.put(b"e", "e", 50)
    assert [cache.get(key) for key in (b"b", b"c", b"d", b"e")] == [None, None, None, "e"]
    assert cache.bytes == 50
    cache.clear()
    assert (len(cache), cache.bytes) == (0, 0)


def test_a_value_that_is_too_large_is_not_kept() -> None:
    """
    The others stay, but not an earlier value of the same key.
    """
    cache = WeighedCache[str](3, 100)
    cache.put(b"a", "a", 10)
    cache.put(b"b", "b", 10)
    cache.put(b"b", "B", 101)
    cache.discard(b"x")
    assert (cache.get(b"a"), cache.get(b"b"), cache.bytes) == ("a", None, 10)

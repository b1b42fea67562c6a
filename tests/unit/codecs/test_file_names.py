"""
Names that clients propose for files.
"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rt_twisted.codecs.file_names import MAX_NAME, header_name, labeled_name, safe_name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("photo.jpg", "photo.jpg"),
        ("Über uns 2.pdf", "Über uns 2.pdf"),
        ("写真.jpg", "写真.jpg"),
        ("", "unnamed"),
        (".", "unnamed"),
        ("..", "unnamed"),
        ("../../etc/passwd", "passwd"),
        ("a/b", "b"),
        ("a\\b", "b"),
        ("C:\\fakepath\\photo.jpg", "photo.jpg"),
        ("a/", "unnamed"),
        (".htaccess", "htaccess"),
        ("...hidden", "hidden"),
        (" .x", "x"),
        ("-rf", "rf"),
        ("~root", "root"),
        ("a\0b", "a_b"),
        ("a\r\nb", "a__b"),
        ("x\u202egpj.exe", "x_gpj.exe"),
        ("a\ud800", "a_"),
        ("\u3164", "unnamed"),
        ("a\u00a0b", "a b"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("com1 .x", "_com1 .x"),
        ("LPT².y", "_LPT².y"),
        ("console.txt", "console.txt"),
        ("name. .", "name"),
        ('a:b<c>|?*".x', "a_b_c_____.x"),
        ("e\u0301.txt", "é.txt"),
        ("x" * 300, "x" * 200),
        ("x" * 300 + ".jpeg", "x" * 195 + ".jpeg"),
        ("é" * 300 + ".jpeg", "é" * 97 + ".jpeg"),
        ("x." + "y" * 300, "x." + "y" * 198),
    ],
)
def test_a_name_is_plain_and_visible(given: str, name: str) -> None:
    """
    No name leaves its folder, hides, or is special on Linux, macOS or Windows.
    """
    assert safe_name(given) == name


@given(st.text(max_size=300) | st.text(alphabet="./\\ -~:con1.\0\u202e\u0301", max_size=300))
@example("." * 199 + " x")
@example("a" * 199 + " .b")
def test_any_text_becomes_a_name(text: str) -> None:
    """
    The name is one of a file, fits a file system with room for a label, and is safe itself.
    """
    name = safe_name(text)

    assert name
    assert name not in (".", "..")
    assert len(name.encode()) <= MAX_NAME
    assert not set(name) & set('/\\<>:"|?*')
    assert name[0] not in ". -~"
    assert name[-1] not in ". "
    assert all(unicodedata.category(one)[0] != "C" for one in name)
    assert safe_name(name) == name
    assert len(labeled_name(name, "12345678").encode()) <= 255


def test_a_label_stands_before_the_extension() -> None:
    """
    Programs still recognize the type of the file.
    """
    assert labeled_name("photo.jpg", "2") == "photo-2.jpg"
    assert labeled_name("README", "2") == "README-2"


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("a.txt", "a.txt"),
        ("%E5%86%99.jpg", "写.jpg"),
        ("写".encode().decode("latin-1"), "写"),
        ("\xfcber", "über"),
        ("100%", "100%"),
        ("%ff", "%ff"),
    ],
)
def test_a_header_has_a_name_in_several_ways(value: str, name: str) -> None:
    """
    Percent-encoded by pages; UTF-8 or Latin-1 by programs.
    """
    assert header_name(value) == name

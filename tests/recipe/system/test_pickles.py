"""What a pickle would make is known before it is made."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from typing import Any

import pytest

from recipe.system import pickles


class Never:
    """What is imported and not called."""

    name = f"{__name__}.Never"


CONTENT = {
    "class": Never,
    "a": [1, 2.5, (1, 2), {"x": None, 3: b"b"}], "o": OrderedDict(a=1), "s": {1, 2}, "n": 2**70, "t": True,
    "same": [[7]] * 3, "long": "x" * 100, "b": bytearray(b"x"),
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_what_is_imported_is_named_and_the_file_left_at_the_end(protocol: int):
    file = io.BytesIO(pickle.dumps(CONTENT, protocol) + b"rest")
    names, calls = pickles.survey(file)
    assert file.read() == b"rest"
    if protocol < 4:  # later ones name modules by texts
        assert "collections.OrderedDict" in names
        assert calls <= names
        assert "collections.OrderedDict" in calls
        assert Never.name in names - calls


def within(value: Any, levels: int, times: int) -> Any:
    for _ in range(levels):
        value = [value] * times
    return value


def survey(content: Any) -> None:
    pickles.survey(io.BytesIO(pickle.dumps(content, 2)))


def test_objects_are_counted_as_often_as_they_are_reached(monkeypatch: pytest.MonkeyPatch):
    # 1 + 10 + 100 + 1000 lists and numbers, of which 31 are in the file
    monkeypatch.setattr(pickles, "MOST_OBJECTS", 1111)
    survey(within(1, 3, 10))
    monkeypatch.setattr(pickles, "MOST_OBJECTS", 1110)
    with pytest.raises(pickles.TooMuch, match="stands for more than 1,110 objects"):
        survey(within(1, 3, 10))


@pytest.mark.parametrize(
    "content",
    [within(1, 40, 10), tuple(within(1, 40, 2)), {"key": within(1, 40, 10)}, ["x" * 100_000] * 10_000],
)
def test_what_would_never_end_is_refused(content: Any):
    with pytest.raises(pickles.TooMuch, match="stands for more than 5,000,000 objects"):
        survey(content)


def test_a_key_that_would_be_hashed_for_ever_is_refused_even_if_it_is_dropped():
    key = b"K\x01" + b"2\x86" * 60  # a number; a pair of the last one and itself
    for pickle_ in (b"}" + key + b"Ns.", key + b"0N."):
        with pytest.raises(pickles.TooMuch, match="stands for more than"):
            pickles.survey(io.BytesIO(pickle_))


def test_depth_is_bounded():
    survey(within(1, pickles.DEEPEST - 1, 1))
    with pytest.raises(pickles.TooMuch, match="more than 100 objects within each other"):
        survey(within(1, pickles.DEEPEST, 1))
    with pytest.raises(pickles.TooMuch, match="more than 100 objects within each other"):
        pickles.survey(io.BytesIO(b"]" * 100_000 + b"a" * 99_999 + b"."))


def test_a_list_within_itself_is_refused():
    content: list[Any] = []
    content.append([content])
    with pytest.raises(pickles.TooMuch, match="within itself"):
        survey(content)


@pytest.mark.parametrize(
    "content",
    [b"", b".", b"N", b"(t", b"t.", b"h\x05.", b"0.", b"\xff", b"Ns.", b"j\xff\xff\xff\xff.",
     b"X\xff\xff\xff\x7fab.", b"cos\n", b"\x8a\xff", b"Nr\xff\xff\xff\x7f."],
)  # fmt: skip
def test_what_is_no_pickle_is_one_reason(content: bytes):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        pickles.survey(io.BytesIO(content))


def test_any_flipped_bit_is_one_reason_or_another_pickle():
    sound = pickle.dumps(CONTENT, 2)
    reasons = []
    for position in range(len(sound)):
        for bit in range(8):
            damaged = bytearray(sound)
            damaged[position] ^= 1 << bit
            try:
                pickles.survey(io.BytesIO(damaged))
            except ValueError as error:
                reasons.append(str(error))
    assert reasons
    assert not any("\n" in reason for reason in reasons)

"""Small changes to sound input."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

NUMBERS = [bytes([255]) * 4, bytes(8), bytes([255]) * 8, b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x40"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**31, 2**63, -1, 10**400, 1e308, float("nan"), float("inf")]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", ".", "..", "/", "../../x", "a\0b", "\ud800", "$", "\x1b[2J", "x" * 300, "0" * 5000]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def mutated(draw, seeds: Sequence[bytes]) -> bytes:
    """One of these, changed in a few places, most of them near its ends, where formats say what follows."""
    content = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 6))):
        size = len(content)
        at = draw(
            st.one_of(st.integers(0, min(size, 600)), st.integers(max(0, size - 600), size), st.integers(0, size))
        )
        kind = draw(st.sampled_from(["byte", "number", "insert", "delete", "cut", "double", "splice"]))
        length = draw(st.integers(1, 64))
        if kind == "byte":
            content = content[:at] + draw(st.binary(min_size=1, max_size=1)) + content[at + 1 :]
        elif kind == "number":
            number = draw(st.sampled_from(NUMBERS))
            content = content[:at] + number + content[at + len(number) :]
        elif kind == "insert":
            content = content[:at] + draw(st.binary(max_size=16)) + content[at:]
        elif kind == "delete":
            content = content[:at] + content[at + length :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "double":
            content = content[: at + length] + content[at:]
        else:
            other = draw(st.sampled_from(seeds))
            content = content[:at] + other[draw(st.integers(0, len(other))) :]
    return content


def places(value: Any) -> int:
    """How many values a value of JSON holds, itself among them."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(places, inside))


def replaced(value: Any, place: int, new: Any, removed: bool) -> Any:
    """A value of JSON with another in one of its places, counted from the front; or without it."""
    if place == 0:
        return new
    place -= 1
    pairs = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    for number, (key, inside) in enumerate(pairs):
        count = places(inside)
        if place < count:
            if removed and place == 0:
                del pairs[number]
            else:
                pairs[number] = key, replaced(inside, place, new, removed)
            break
        place -= count
    return dict(pairs) if isinstance(value, dict) else [each for _, each in pairs]


@st.composite
def changed_json(draw, value: Any, most: int = 3) -> Any:
    """A value of JSON with a few others in it."""
    for _ in range(draw(st.integers(1, most))):
        place = draw(st.integers(0, places(value) - 1))
        value = replaced(value, place, draw(JSON), place > 0 and draw(st.booleans()))
    return value

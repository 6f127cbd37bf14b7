"""Ways in which files are damaged, at random: the same way again for the same random numbers.

Each takes a random generator, the bytes of a file, and those of another one, and gives new bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np

HEADER_BYTES = 256  # here all formats say most of what they say of themselves
Mutation = Callable[[np.random.Generator, bytes, bytes], bytes]


@dataclass(frozen=True)
class Field:
    """An integer in a file."""

    at: int
    size: int
    order: str

    def read(self, content: bytes) -> int:
        return int.from_bytes(content[self.at : self.at + self.size], self.order)

    def write(self, content: bytes, value: int) -> bytes:
        value %= 256**self.size
        new = value.to_bytes(self.size, self.order)
        return content[: self.at] + new + content[self.at + self.size :]


def header_byte(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content[:HEADER_BYTES])
    return _put(content, at, bytes([rng.choice([0, 255, rng.integers(256)])]))


def header_field(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    field = _any_field(rng, content)
    ones = 256**field.size - 1
    return field.write(content, int(rng.choice([0, ones, ones // 2, int(rng.integers(2**31))])))


def header_bits(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    for _ in range(rng.integers(1, 6)):
        at = _place(rng, content[:HEADER_BYTES])
        content = _put(content, at, bytes([content[at] ^ (1 << rng.integers(8))]))
    return content


def length_off_by_little(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    field = _length_field(rng, content)
    off = int(rng.choice([1, 2, 3, 4, 8, 44, 512])) * int(rng.choice([-1, 1]))
    return field.write(content, field.read(content) + off)


def length_off_by_much(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    field = _length_field(rng, content)
    length = field.read(content)
    return field.write(content, int(rng.choice([0, length // 2, length * 1000, 2**31, -1])))


def length_doubled(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    field = _length_field(rng, content)
    return field.write(content, 2 * field.read(content))


def cut(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: 1 + _place(rng, content)]


def cut_in_the_header(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: 1 + _place(rng, content[:HEADER_BYTES])]


def beginning_lost(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[_place(rng, content) :]


def overwritten(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    for _ in range(rng.integers(1, 6)):
        content = _put(content, _place(rng, content), rng.bytes(rng.integers(1, 200)))
    return content


def zeros(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """A part that was never written, as after a crash."""
    return _put(content, _place(rng, content), bytes(rng.integers(1, 5000)))


def inserted(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + rng.bytes(rng.integers(1, 500)) + content[at:]


def deleted(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at + rng.integers(1, 500) :]


def repeated(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    at = _place(rng, content)
    return content[:at] + content[at // 2 :]


def joined_to_itself(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content + content


def joined_to_another(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content + other


def spliced(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content[: _place(rng, content)] + other[_place(rng, other) :]


def rubbish_at_the_end(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    return content + rng.bytes(rng.integers(1, 5000))


def all_at_once(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    for number in rng.choice(len(MUTATIONS) - 1, 3):
        content = MUTATIONS[number](rng, content, other) or b"\0"
    return content


MUTATIONS: list[Mutation] = [
    *(header_byte, header_field, header_bits),
    *(length_off_by_little, length_off_by_much, length_doubled),
    *(cut, cut_in_the_header, beginning_lost, overwritten, zeros, inserted, deleted, repeated),
    *(joined_to_itself, joined_to_another, spliced, rubbish_at_the_end),
    all_at_once,
]


def _place(rng: np.random.Generator, content: bytes) -> int:
    return int(rng.integers(len(content)))


def _put(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new[: len(content) - at] + content[at + len(new) :]


def _any_field(rng: np.random.Generator, content: bytes) -> Field:
    size = int(rng.choice([2, 4, 8]))
    return Field(_place(rng, content[:HEADER_BYTES]), size, str(rng.choice(["little", "big"])))


def _length_field(rng: np.random.Generator, content: bytes) -> Field:
    """A number that may be the length of the file in bytes; any field where there is none."""
    places = range(min(len(content), HEADER_BYTES))
    fields = (Field(*each) for each in product(places, (4, 8), ("little", "big")))
    likely = range(len(content) // 3, len(content) + 8)
    fitting = [field for field in fields if field.read(content) in likely]
    return fitting[rng.integers(len(fitting))] if fitting else _any_field(rng, content)

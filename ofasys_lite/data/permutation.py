"""Shuffles without memory: the element at any place of a keyed permutation, and generators keyed by what they are for.

A permutation of range(size) is a Feistel network on Z_a x Z_b with a * b just above size, and walks on where it lands
outside (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). Nothing is stored: one place costs
the same in an epoch of ten samples and in one of ten billion.

Suffix of array names: N places.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

# an even number of rounds treats both halves alike; 8 leave no visible structure down to 3 elements (tested)
_ROUNDS = 8
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SALTS = [np.uint64(0x9E3779B97F4A7C15 * number % 2**64) for number in range(1, _ROUNDS + 1)]
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)

Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]


@lru_cache(maxsize=4096)
def key_of(*parts: str | int, size: int = 8) -> int:
    """A key of `size` bytes; equal on every machine, and different parts (`1` and `"1"`, too) give other keys."""
    state = hashlib.blake2b(digest_size=size)
    for part in parts:
        text = str(part).encode("utf-8", "surrogatepass")
        state.update(f"{type(part).__name__}{len(text)}:".encode() + text)
    return int.from_bytes(state.digest(), "little")


def sample_rng(seed: int, task: str, sample_id: str, epoch: int) -> np.random.Generator:
    """The generator of one sample in one epoch: prompt choice, augmentation, masking and noise draw from it.

    It depends on its four arguments alone, so any worker or rank draws the same numbers (Philox, Salmon et al. 2011).
    """
    return np.random.Generator(np.random.Philox(key=key_of(seed, task, sample_id, epoch, size=16)))


def sides(size: int) -> tuple[int, int]:
    """The two sides (a, b) of the Feistel rectangle: a * b >= size, and less than size + a."""
    a = isqrt(size - 1) + 1 if size > 1 else 1
    return a, -(-size // a)


def permute(place: int, size: int, key: int) -> int:
    """The element of range(size) that stands at `place` of the permutation named by `key`."""
    a, b = sides(size)
    place_N = np.array([place], np.int64)
    key_N = np.array([key], np.uint64)
    return int(permute_many(place_N, np.array([size]), np.array([a]), np.array([b]), key_N)[0])


def permute_many(place_N: Int64, size_N: Int64, a_N: Int64, b_N: Int64, key_N: UInt64) -> Int64:
    """The elements (N,) at the places (N,) of N permutations, each with its own size, sides and key.

    Args:
        place_N: Places, 0 <= place < size.
    """
    out_N: Int64 = place_N.copy()
    left = np.arange(len(place_N))  # each passes over its rectangle until it lies within its size
    while left.size:
        a, b, key = a_N[left].astype(np.uint64), b_N[left].astype(np.uint64), key_N[left]
        line, column = np.divmod(out_N[left].astype(np.uint64), b)
        for number, salt in enumerate(_SALTS):
            # one half is mixed as splitmix64 mixes its counter, and turns the other: a bijection of range(a * b)
            z = ((line if number % 2 else column) + np.uint64(1)) * _GOLDEN ^ (key + salt)
            z = (z ^ (z >> np.uint64(30))) * _MIX1
            z = (z ^ (z >> np.uint64(27))) * _MIX2
            bits = z >> np.uint64(33)
            if number % 2:
                column = (column + bits % b) % b
            else:
                line = (line + bits % a) % a
        out_N[left] = (line * b + column).astype(np.int64)
        left = left[out_N[left] >= size_N[left]]
    return out_N

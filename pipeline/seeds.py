"""Derives independent seeds from one seed, by name, so that a change of one part of the pipeline leaves the others alone."""

import hashlib


def derive_seed(seed: int, name: str) -> int:
    """Derive the seed named `name`, in [0, 2³²): the first 32 bits of the SHA-256 of `seed:name`.

    >>> derive_seed(0, "split"), derive_seed(1, "split"), derive_seed(0, "limit")
    (2173782163, 1594501796, 3637982578)
    """
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:4], "big")

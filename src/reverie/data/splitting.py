"""Who trains, who validates, who is kept for the end: decided by content and nothing else."""

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from reverie.core.errors import BadInput


def content_hash(content: bytes) -> int:
    """64 bits that decide the place of a row and its split: nothing but its content does."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def split_by_content(hashes: np.ndarray, groups: Sequence[str] | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """The order of the rows, and where in it validation and test begin: shares of about 80, 10 and 10.

    `hashes` (n,) uint64. Rows that share a group, or are copies of each other, stay on one side. Neither the order nor
    the names of files matter.
    """
    n = len(hashes)
    if n < 3:
        raise BadInput(f"{n} usable examples are too few; at least 3 are needed to train, validate and test")
    side = np.unique(hashes, return_inverse=True)[1]  # (n,) which rows stay together
    if groups is not None:
        who = np.unique(groups, return_inverse=True)[1]
        links = coo_matrix((np.ones(n), (side, who + n)), (2 * n, 2 * n))  # contents and groups that share a row
        side = np.unique(connected_components(links, directed=False)[1][side], return_inverse=True)[1]
    # Those together are known by what is in them, not by a name.
    lists = np.split(hashes[np.lexsort((hashes, side))], np.cumsum(np.bincount(side))[:-1])
    ranked = np.argsort(np.array([content_hash(rows.tobytes()) for rows in lists], np.uint64))
    if len(ranked) < 3:
        raise BadInput(
            f"only {len(ranked)} different examples or groups; at least 3 are needed to train, validate and test"
        )
    ends = np.cumsum([len(lists[i]) for i in ranked])
    first = min(int(np.searchsorted(ends, 0.8 * n - 0.5)), len(ranked) - 3)
    second = min(max(int(np.searchsorted(ends, 0.9 * n - 0.5)), first + 1), len(ranked) - 2)
    place = np.empty(len(ranked), np.int64)
    place[ranked] = np.arange(len(ranked))
    part = np.searchsorted([first, second], place[side])  # 0 train, 1 valid, 2 test
    # Within each split by the hash of the row, so that a run of rows is a fair sample of it.
    return np.lexsort((hashes, part)), (int(ends[first]), int(ends[second]))

"""Groups of similar tokens, all of one size: the tokens that share a row of a grid, or a node of a tree."""

import numpy as np
from scipy.optimize import linear_sum_assignment

ROUNDS = 4
ALIGNED_UP_TO = 600  # tokens in a group; matching takes 6 ms for 200, and grows with the cube


def clusters(vectors: np.ndarray, *, size: int) -> list[np.ndarray]:
    """Groups of `size` like vectors, the last one with what is left: row numbers, rising inside a group.

    Halves are cut at the median along the direction of largest variance, again and again, so that every group is full.

    Args:
        vectors: float32 (n, d).
        size: rows in a group.
    """
    groups: list[np.ndarray] = []
    waiting = [np.arange(len(vectors))]
    while waiting:
        rows = waiting.pop()
        number = -(-len(rows) // size)
        if number <= 1:
            groups.append(np.sort(rows))
            continue
        centred = vectors[rows] - vectors[rows].mean(0)
        direction = np.linalg.eigh(centred.T @ centred)[1][:, -1]
        direction = direction * (np.sign(direction[np.abs(direction).argmax()]) or 1)
        order = rows[np.argsort(centred @ direction, kind="stable")]
        half = number // 2 * size
        waiting += [order[half:], order[:half]]  # the first half is cut first, so that groups come out in order
    return groups


def aligned(vectors: np.ndarray, groups: list[np.ndarray]) -> list[np.ndarray]:
    """The same groups, each put in order so that members in the same place of all groups are alike.

    What a member has beyond its group's mean is matched, one to one and by least squares, with what those in its place
    have on average, in turn with these averages. In a table whose rows are sums of a group's row and a place's row, the
    places' rows then say something: without it they are means of what has nothing in common (docs/results.md).

    Args:
        vectors: float32 (n, d).
        groups: row numbers; all of one size, but for the last.
    """
    whole = [rows for rows in groups if len(rows) == len(groups[0])]
    if len(whole) < 2 or len(groups[0]) > ALIGNED_UP_TO:
        return groups
    found = np.stack(whole)
    beyond = [vectors[rows] - vectors[rows].mean(0) for rows in found]
    spread = sum(each.T @ each for each in beyond)
    direction = np.linalg.eigh(spread)[1][:, -1]
    direction = direction * (np.sign(direction[np.abs(direction).argmax()]) or 1)
    orders = [np.argsort(each @ direction, kind="stable") for each in beyond]
    for _ in range(ROUNDS):
        places = np.mean([each[order] for each, order in zip(beyond, orders, strict=True)], axis=0)
        orders = [linear_sum_assignment(places @ each.T, maximize=True)[1] for each in beyond]
    return [rows[order] for rows, order in zip(found, orders, strict=True)] + groups[len(whole) :]

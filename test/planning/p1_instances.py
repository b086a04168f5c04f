"""Random instances of P1 as arrays, and a search for its optimum that knows no closed form of clocks or energy."""

from __future__ import annotations

import numpy as np

from laim_ros.planning.paper_design import Machine, Problem

FULL_BITS = 32


def random_instances(count: int, seed: int) -> np.recarray:
    """The symbols of theory.md, section 3, of `count` instances, in its units; κ is ηψ.

    Of all kinds: loose and tight, with and without binding caps, one in twelve with an idle machine.
    """
    random = np.random.default_rng(seed)

    def spread(low: float, high: float) -> np.ndarray:
        return 10 ** random.uniform(low, high, count)

    robot_hz, edge_hz = spread(8.5, 9.8), spread(8.7, 10.2)
    robot_c, edge_c = spread(0.5, 2), spread(1, 2.5)
    robot_kappa, edge_kappa = spread(-30, -28), spread(-31, -27.5)
    robot_flop, edge_flop = spread(9, 12), spread(8, 12)
    idle = random.integers(0, 24, count)
    robot_flop[idle == 0] = 0
    edge_flop[idle == 1] = 0
    most_bits = random.integers(1, 12, count, endpoint=True)
    # Limits around what a middling width needs, or they would decide nothing.
    robot, edge = random.uniform(0.5, 1.2 * most_bits) * robot_flop / (FULL_BITS * robot_c), edge_flop / edge_c
    delay_s = (robot / robot_hz + edge / edge_hz) * spread(-0.3, 0.5)
    energy_j = (robot_kappa * robot**3 + edge_kappa * edge**3) / delay_s**2 * spread(-0.5, 1.5)
    columns = {"delay_s": delay_s, "energy_j": energy_j, "most_bits": most_bits}
    columns |= {"robot_hz": robot_hz, "robot_c": robot_c, "robot_kappa": robot_kappa, "robot_flop": robot_flop}
    columns |= {"edge_hz": edge_hz, "edge_c": edge_c, "edge_kappa": edge_kappa, "edge_flop": edge_flop}
    return np.rec.fromarrays(list(columns.values()), names=list(columns))


def problems_of(instances: np.recarray) -> list[Problem]:
    """The same for the solver, with a power usage effectiveness of 2 on the edge."""
    rows = (dict(zip(instances.dtype.names, row, strict=True)) for row in instances.tolist())
    return [
        Problem(
            robot=Machine(row["robot_hz"], row["robot_c"], row["robot_kappa"]),
            edge=Machine(row["edge_hz"], row["edge_c"], row["edge_kappa"] / 2, power_usage_effectiveness=2.0),
            robot_flop=row["robot_flop"],
            edge_flop=row["edge_flop"],
            delay_limit_s=row["delay_s"],
            energy_limit_j=row["energy_j"],
            full_bits=FULL_BITS,
            most_bits=row["most_bits"],
        )
        for row in rows
    ]


def delay_and_energy(
    instances: np.recarray, bits: np.ndarray, robot_hz: np.ndarray, edge_hz: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """T and E by their definitions; a machine without work may have any clock."""
    robot, edge = bits * instances.robot_flop / (FULL_BITS * instances.robot_c), instances.edge_flop / instances.edge_c
    with np.errstate(divide="ignore", invalid="ignore"):
        delay_s = np.where(robot > 0, robot / robot_hz, 0) + np.where(edge > 0, edge / edge_hz, 0)
    return delay_s, instances.robot_kappa * robot * robot_hz**2 + instances.edge_kappa * edge * edge_hz**2


def searched_energies(instances: np.recarray, most_bits: int, points: int = 17, zooms: int = 5) -> np.ndarray:
    """Least energy in joules for each instance and 1 … most_bits, (count, most_bits); infinite where too slow.

    All of T₀ is used. Its share for the robot is searched between what the highest clocks allow, at both ends and on a
    grid of logits, and again between the neighbours of the best. Whatever it finds is feasible.
    """
    columns = {name: instances[name][:, None, None] for name in instances.dtype.names}
    bits = np.arange(1, most_bits + 1)[:, None]
    robot = bits * columns["robot_flop"] / (FULL_BITS * columns["robot_c"])
    edge = columns["edge_flop"] / columns["edge_c"]
    least = robot / (columns["robot_hz"] * columns["delay_s"])
    most = 1 - edge / (columns["edge_hz"] * columns["delay_s"])
    robot_j = columns["robot_kappa"] * robot**3 / columns["delay_s"] ** 2
    edge_j = columns["edge_kappa"] * edge**3 / columns["delay_s"] ** 2

    def energies(share: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(robot > 0, robot_j / share**2, 0) + np.where(edge > 0, edge_j / (1 - share) ** 2, 0)

    best = np.minimum(energies(least), energies(most))
    middle, reach = np.zeros_like(robot), 14.0
    for _ in range(zooms):
        logits = middle + np.linspace(-reach, reach, points)
        found = energies(least + (most - least) / (1 + np.exp(-logits)))
        best = np.minimum(best, found.min(axis=2, keepdims=True))
        middle = np.take_along_axis(logits, found.argmin(axis=2, keepdims=True), axis=2)
        reach *= 2 / (points - 1)
    return np.where(least <= most, best, np.inf)[..., 0]

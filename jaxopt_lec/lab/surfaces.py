"""The standard test functions: loss surfaces with known minima, each a function of one array x of shape (dimension,)."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lec.lab.errors import InputError

__all__ = [
    "SURFACES",
    "Ackley",
    "Beale",
    "Booth",
    "Cone",
    "DoubleWell",
    "Himmelblau",
    "Minimum",
    "Rastrigin",
    "Ravine",
    "Rosenbrock",
    "Saddle",
    "StyblinskiTang",
    "Surface",
    "find_surface",
    "noisy",
]


class Minimum(NamedTuple):
    """A point that is lower than all around it, and how low it is."""

    point: tuple[float, ...]
    value: float


class Surface(ABC):
    """A smooth function of an array x of shape (dimension,), for `jax.jit`, `jax.grad` and `jax.vmap`.

    A surface is a frozen dataclass, so it is hashable and equal surfaces share compiled programs.

    Attributes:
        name: as in the registry.
        dimension: how many coordinates x has.
        box: (lowest, highest) of every coordinate in the part of the space that is drawn and searched.
        start: where paths start if nobody says otherwise.

    Errors: ValueError for another shape of x, TypeError for an x that is not of real floating point numbers.
    """

    name: ClassVar[str]
    dimension: int

    @property
    @abstractmethod
    def box(self) -> tuple[tuple[float, float], ...]:
        """Return (lowest, highest) of every coordinate."""

    @property
    @abstractmethod
    def start(self) -> tuple[float, ...]:
        """Return the usual starting point."""

    @property
    @abstractmethod
    def minima(self) -> tuple[Minimum, ...]:
        """Return all global minima; a surface that is unbounded below has none."""

    def local_minima(self) -> Iterator[Minimum]:
        """Yield the known minima that are not global, lazily: some surfaces have exponentially many."""
        return iter(())

    @abstractmethod
    def formula(self, x: jax.Array) -> jax.Array:
        """Return the value at x, whose shape has been checked."""

    @property
    def domain(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest corner of the box."""
        low, high = zip(*self.box, strict=True)
        dtype = jnp.result_type(float)
        return np.array(low, dtype), np.array(high, dtype)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the value at x, a scalar."""
        x = jnp.asarray(x)
        if x.shape != (self.dimension,):
            raise ValueError(f"{self.name} takes an array of shape ({self.dimension},), got {x.shape}")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"{self.name} takes real floating point numbers, got {x.dtype}")
        return self.formula(x)


def check_dimension(surface: Surface, least: int) -> None:
    """Raise an InputError for a dimension in which a surface does not exist."""
    if surface.dimension < least:
        raise InputError(f"{surface.name}: dimension {surface.dimension}; at least {least} is needed")


def products(along_one_axis: Sequence[Minimum], dimension: int) -> Iterator[Minimum]:
    """Yield the minima of a sum of one function over the axes, from those of the one; the global minimum is left out."""
    for chosen in itertools.product(along_one_axis, repeat=dimension):
        if any(m is not along_one_axis[0] for m in chosen):
            yield Minimum(tuple(m.point[0] for m in chosen), sum(m.value for m in chosen))


@dataclass(frozen=True)
class Ravine(Surface):
    """A quadratic valley: f(x) = ½ Σ λᵢ yᵢ², y = Rᵀ x, λ from 1 to κ in equal ratios.

    The minimum is 0 at the origin, in every dimension.

    Args:
        condition: κ ≥ 1, the largest curvature over the smallest. The first axis is the flattest, the last the steepest.
        dimension: at least 1; in one, λ = κ.
        angle: of the rotation R in radians: one after the other in the planes of axes (1, 2), (2, 3), ...

    Errors: InputError for a condition below 1 or a dimension below 1.
    """

    name: ClassVar[str] = "ravine"
    condition: float = 50.0
    dimension: int = 2
    angle: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_dimension(self, 1)
        if not (math.isfinite(self.condition) and self.condition >= 1):
            raise InputError(f"ravine: condition {self.condition}; a number from 1 on is needed")

    @property
    def box(self) -> tuple[tuple[float, float], ...]:
        """Return a box around the minimum."""
        return ((-1.5, 1.5),) * self.dimension

    @property
    def start(self) -> tuple[float, ...]:
        """Return a point far up the valley and some way up its wall."""
        return (*(-1.3,) * (self.dimension - 1), 0.5) if self.dimension > 1 else (-1.3,)

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Return the origin."""
        return (Minimum((0.0,) * self.dimension, 0.0),)

    def curvatures(self) -> np.ndarray:
        """Return λ, from the flattest to the steepest axis."""
        return np.geomspace(1.0, self.condition, self.dimension) if self.dimension > 1 else np.array([self.condition])

    def rotation(self) -> np.ndarray:
        """Return R, whose columns are the axes of the valley."""
        R = np.eye(self.dimension)
        c, s = math.cos(self.angle), math.sin(self.angle)
        for i in range(self.dimension - 1):
            R[:, [i, i + 1]] = R[:, [i, i + 1]] @ np.array([[c, -s], [s, c]])
        return R

    def formula(self, x: jax.Array) -> jax.Array:
        """Return ½ Σ λᵢ yᵢ²."""
        y = jnp.asarray(self.rotation().T, x.dtype) @ x if self.angle else x
        return jnp.sum(jnp.asarray(self.curvatures(), x.dtype) * y**2) / 2


@dataclass(frozen=True)
class Rosenbrock(Surface):
    """Rosenbrock's banana: f(x) = Σᵢ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)².

    The global minimum is 0 at (1, …, 1) in every dimension; from four on there is a local one near (−1, 1, …, 1).

    Args:
        dimension: at least 2.

    Reference: H. Rosenbrock, An automatic method for finding the greatest or least value of a function, 1960.
    """

    name: ClassVar[str] = "rosenbrock"
    dimension: int = 2

    def __post_init__(self) -> None:
        """Check the dimension."""
        check_dimension(self, 2)

    @property
    def box(self) -> tuple[tuple[float, float], ...]:
        """Return De Jong's box."""
        return ((-2.048, 2.048),) * self.dimension

    @property
    def start(self) -> tuple[float, ...]:
        """Return Rosenbrock's start, on the wrong side of the bend."""
        return (-1.2, *(1.0,) * (self.dimension - 1))

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Return (1, …, 1)."""
        return (Minimum((1.0,) * self.dimension, 0.0),)

    def formula(self, x: jax.Array) -> jax.Array:
        """Return Σᵢ 100 (xᵢ₊₁ − xᵢ²)² + (1 − xᵢ)²."""
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@dataclass(frozen=True)
class Beale(Surface):
    """Beale's function, flat with sharp corners: f(x, y) = (1.5 − x + xy)² + (2.25 − x + xy²)² + (2.625 − x + xy³)².

    The minimum is 0 at (3, ½).

    Reference: E. Beale, On an iterative method for finding a local minimum of a function of more than one variable, 1958.
    """

    name: ClassVar[str] = "beale"
    dimension = 2
    box = ((-4.5, 4.5),) * 2
    start = (1.0, 1.5)
    minima = (Minimum((3.0, 0.5), 0.0),)

    def formula(self, x: jax.Array) -> jax.Array:
        """Return the sum of the three squares."""
        x, y = x
        return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


@dataclass(frozen=True)
class Himmelblau(Surface):
    """Himmelblau's function with four equal minima: f(x, y) = (x² + y − 11)² + (x + y² − 7)².

    They are 0 at (3, 2) and near (−2.81, 3.13), (−3.78, −3.28) and (3.58, −1.85).

    Reference: D. Himmelblau, Applied nonlinear programming, 1972.
    """

    name: ClassVar[str] = "himmelblau"
    dimension = 2
    box = ((-5.5, 5.5),) * 2
    start = (-0.5, -1.0)
    minima = (
        Minimum((3.0, 2.0), 0.0),
        Minimum((-2.8051180869527448, 3.1313125182505730), 0.0),
        Minimum((-3.7793102533777469, -3.2831859912861694), 0.0),
        Minimum((3.5844283403304917, -1.8481265269644036), 0.0),
    )

    def formula(self, x: jax.Array) -> jax.Array:
        """Return (x² + y − 11)² + (x + y² − 7)²."""
        x, y = x
        return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


@dataclass(frozen=True)
class Booth(Surface):
    """Booth's function, an oblique quadratic bowl: f(x, y) = (x + 2y − 7)² + (2x + y − 5)².

    The minimum is 0 at (1, 3).
    """

    name: ClassVar[str] = "booth"
    dimension = 2
    box = ((-10.0, 10.0),) * 2
    start = (-8.0, 5.0)  # not along an axis of the bowl, where every path would be one line
    minima = (Minimum((1.0, 3.0), 0.0),)

    def formula(self, x: jax.Array) -> jax.Array:
        """Return (x + 2y − 7)² + (2x + y − 5)²."""
        x, y = x
        return (x + 2 * y - 7) ** 2 + (2 * x + y - 5) ** 2


@dataclass(frozen=True)
class Rastrigin(Surface):
    """Rastrigin's egg carton: f(x) = Σᵢ 10 + xᵢ² − 10 cos 2πxᵢ.

    The global minimum is 0 at the origin; there is one near every point of whole numbers in the box, 11ᵈ in all.

    Args:
        dimension: at least 1.

    Reference: L. Rastrigin, Systems of extremal control, 1974.
    """

    name: ClassVar[str] = "rastrigin"
    dimension: int = 2

    def __post_init__(self) -> None:
        """Check the dimension."""
        check_dimension(self, 1)

    @property
    def box(self) -> tuple[tuple[float, float], ...]:
        """Return the usual box."""
        return ((-5.12, 5.12),) * self.dimension

    @property
    def start(self) -> tuple[float, ...]:
        """Return a point a few hills away from the lowest minimum."""
        return (-3.4, 2.3, *(2.3,) * (self.dimension - 2))[: self.dimension]

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Return the origin."""
        return (Minimum((0.0,) * self.dimension, 0.0),)

    def local_minima(self) -> Iterator[Minimum]:
        """Yield the others inside the box, 11ᵈ − 1."""
        axis = []
        for x in sorted(map(float, range(-5, 6)), key=abs):
            for _ in range(5):  # Newton's method, from the whole number
                x -= (2 * x + 20 * math.pi * math.sin(2 * math.pi * x)) / (2 + 40 * math.pi**2 * math.cos(2 * math.pi * x))
            axis.append(Minimum((x,), 10 + x**2 - 10 * math.cos(2 * math.pi * x)))
        return products(axis, self.dimension)

    def formula(self, x: jax.Array) -> jax.Array:
        """Return Σᵢ 10 + xᵢ² − 10 cos 2πxᵢ."""
        return jnp.sum(10 + x**2 - 10 * jnp.cos(2 * math.pi * x))


@dataclass(frozen=True)
class Ackley(Surface):
    """Ackley's funnel with ripples: f(x) = 20 + e − 20 exp(−0.2 √(mean xᵢ²)) − exp(mean cos 2πxᵢ).

    The global minimum is 0 at the origin, in every dimension. It is the tip of a cone: the only point of all these
    surfaces without a gradient, which is 0 there by convention.

    Args:
        dimension: at least 1.

    Reference: D. Ackley, A connectionist machine for genetic hillclimbing, 1987.
    """

    name: ClassVar[str] = "ackley"
    dimension: int = 2

    def __post_init__(self) -> None:
        """Check the dimension."""
        check_dimension(self, 1)

    @property
    def box(self) -> tuple[tuple[float, float], ...]:
        """Return the middle of the function, where its ripples are seen."""
        return ((-5.0, 5.0),) * self.dimension

    @property
    def start(self) -> tuple[float, ...]:
        """Return a point a few ripples away from the tip."""
        return (-3.4, 2.3, *(2.3,) * (self.dimension - 2))[: self.dimension]

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Return the origin."""
        return (Minimum((0.0,) * self.dimension, 0.0),)

    def formula(self, x: jax.Array) -> jax.Array:
        """Return 20 + e − 20 exp(−0.2 √(mean xᵢ²)) − exp(mean cos 2πxᵢ)."""
        mean = jnp.mean(x**2)
        tip = mean == 0
        root = jnp.where(tip, 0, jnp.sqrt(jnp.where(tip, 1, mean)))  # √ has an infinite derivative at 0
        return 20 + math.e - 20 * jnp.exp(-0.2 * root) - jnp.exp(jnp.mean(jnp.cos(2 * math.pi * x)))


@dataclass(frozen=True)
class StyblinskiTang(Surface):
    """The function of Styblinski and Tang: f(x) = ½ Σᵢ xᵢ⁴ − 16 xᵢ² + 5 xᵢ.

    Along each axis there are two minima, at −2.9035 and 2.7468; the global one is about −39.166 d, all coordinates the
    former.

    Args:
        dimension: at least 1.

    Reference: M. Styblinski and T.-S. Tang, Experiments in nonconvex optimization, 1990.
    """

    name: ClassVar[str] = "styblinski-tang"
    dimension: int = 2

    AXIS: ClassVar[tuple[Minimum, ...]] = (
        Minimum((-2.903534027771177,), -39.166165703771415),
        Minimum((2.746802770990837,), -25.029446655283943),
    )

    def __post_init__(self) -> None:
        """Check the dimension."""
        check_dimension(self, 1)

    @property
    def box(self) -> tuple[tuple[float, float], ...]:
        """Return the usual box."""
        return ((-5.0, 5.0),) * self.dimension

    @property
    def start(self) -> tuple[float, ...]:
        """Return a point beside the hill in the middle."""
        return (0.5, 4.2, *(0.5,) * (self.dimension - 2))[: self.dimension]

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Return the one minimum that is lowest along each axis."""
        return (Minimum(self.AXIS[0].point * self.dimension, self.AXIS[0].value * self.dimension),)

    def local_minima(self) -> Iterator[Minimum]:
        """Yield the others, 2ᵈ − 1."""
        return products(self.AXIS, self.dimension)

    def formula(self, x: jax.Array) -> jax.Array:
        """Return ½ Σᵢ xᵢ⁴ − 16 xᵢ² + 5 xᵢ."""
        return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


@dataclass(frozen=True)
class Saddle(Surface):
    """A saddle at the origin: f(x, y) = x² − y² + y⁴/4 if bounded, with minima −1 at (0, ±√2), else x² − y², with none.

    Args:
        bounded: whether the fourth power is there.
    """

    name: ClassVar[str] = "saddle"
    dimension = 2
    box = ((-2.0, 2.0),) * 2
    start = (-1.6, 0.01)
    bounded: bool = True

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Return the two minima, or none."""
        return (Minimum((0.0, math.sqrt(2)), -1.0), Minimum((0.0, -math.sqrt(2)), -1.0)) if self.bounded else ()

    def formula(self, x: jax.Array) -> jax.Array:
        """Return x² − y², and y⁴/4 if bounded."""
        x, y = x
        return x**2 - y**2 + (y**4 / 4 if self.bounded else 0)


@dataclass(frozen=True)
class DoubleWell(Surface):
    """A shallow and a deep well in one dimension: f′(x) = 4 (x + 1)(x − b)(x − 1).

    f(x) = x⁴ − 4b/3 x³ − 2x² + 4bx + 1 + 8b/3. The deep minimum is 0 at −1, the shallow one 16b/3 at 1, the hill
    between them at b.

    Args:
        hill: b in (0, 1); the nearer to 1, the shallower the shallow well.

    Errors: InputError for b outside.
    """

    name: ClassVar[str] = "double-well"
    dimension = 1
    box = ((-2.0, 2.3),)
    start = (2.1,)
    hill: float = 0.5

    def __post_init__(self) -> None:
        """Check the range."""
        if not 0 < self.hill < 1:
            raise InputError(f"double-well: hill {self.hill}; a number between 0 and 1 is needed")

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Return the deep one."""
        return (Minimum((-1.0,), 0.0),)

    def local_minima(self) -> Iterator[Minimum]:
        """Yield the shallow one."""
        yield Minimum((1.0,), 16 * self.hill / 3)

    def formula(self, x: jax.Array) -> jax.Array:
        """Return x⁴ − 4b/3 x³ − 2x² + 4bx + 1 + 8b/3."""
        (x,) = x
        b = self.hill
        return x**4 - 4 * b / 3 * x**3 - 2 * x**2 + 4 * b * x + 1 + 8 * b / 3


@dataclass(frozen=True)
class Cone(Surface):
    """A cone with a rounded tip: f(x) = √(1 + ‖x‖²) − 1. Away from the tip the slope is 1 everywhere.

    The minimum is 0 at the origin, in every dimension.

    Args:
        dimension: at least 1.
    """

    name: ClassVar[str] = "cone"
    dimension: int = 1

    def __post_init__(self) -> None:
        """Check the dimension."""
        check_dimension(self, 1)

    @property
    def box(self) -> tuple[tuple[float, float], ...]:
        """Return a box in which the tip is small."""
        return ((-40.0, 40.0),) * self.dimension

    @property
    def start(self) -> tuple[float, ...]:
        """Return a point far up the slope."""
        return (-36.0,) + (20.0,) * (self.dimension - 1)

    @property
    def minima(self) -> tuple[Minimum, ...]:
        """Return the origin."""
        return (Minimum((0.0,) * self.dimension, 0.0),)

    def formula(self, x: jax.Array) -> jax.Array:
        """Return √(1 + ‖x‖²) − 1."""
        return jnp.sqrt(1 + jnp.sum(x**2)) - 1


SURFACES: Mapping[str, type[Surface]] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Ravine,
            Rosenbrock,
            Beale,
            Himmelblau,
            Booth,
            Rastrigin,
            Ackley,
            StyblinskiTang,
            Saddle,
            DoubleWell,
            Cone,
        )
    }
)


def find_surface(name: str) -> Surface:
    """Return the surface of a name, as it is by default.

    Raises:
        InputError: there is none of that name.
    """
    if name not in SURFACES:
        raise InputError(f"surface {name!r} is not known; known: {', '.join(SURFACES)}")
    return SURFACES[name]()


def noisy(surface: Callable[[jax.Array], jax.Array], sigma: float) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """Return (x, key) ↦ f(x), whose gradient is ∇f(x) + σ z, z ~ N(0, 1) drawn from the key: a mini-batch's gradient.

    The value is f(x) itself. The same key gives the same z whatever x is, so lanes that share keys share their noise.

    Args:
        surface: f, a function of one array.
        sigma: σ in [0, ∞).

    Errors: InputError for a σ outside.
    """
    if not (math.isfinite(sigma) and sigma >= 0):
        raise InputError(f"sigma {sigma}: a number from 0 on is needed")

    def f(x: jax.Array, key: jax.Array) -> jax.Array:
        slope = sigma * jax.random.normal(key, x.shape, x.dtype)
        return surface(x) + jnp.sum(slope * (x - jax.lax.stop_gradient(x)))

    return f

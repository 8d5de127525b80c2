"""The methods as plain NumPy loops in float64 (complex128 for complex parameters), written from the papers.

Nothing here imports the library, JAX or Optax: an oracle that shared code with what it judges would share its mistakes.

Every oracle is ``method(theta, gradient, steps, learning_rate, *, ...)`` and returns the iterates as an array of shape
``(steps + 1, *theta.shape)``; row 0 is ``theta``. ``gradient(theta, t)`` is asked at t = 1, 2, ... . The learning rate
is a number or a function of the 0-based step count. Epsilon is ``eps`` outside the root and ``eps_root`` inside. For
complex theta |g|² stands for g², accumulators are real, and ``gradient`` returns the direction to be subtracted.
"""

from .adadelta import adadelta
from .adafactor import adafactor
from .adagrad import adagrad
from .adam import adam
from .adamax import adamax
from .adamw import adamw
from .amsgrad import amsgrad
from .asgd import asgd, asgd_average
from .ftrl import ftrl
from .lamb import lamb
from .lion import lion
from .momentum import momentum
from .muon import muon
from .nadam import nadam
from .nesterov import nesterov, nesterov_look_ahead
from .newton import newton, newton_cg
from .radam import radam
from .rmsprop import rmsprop
from .rprop import rprop
from .schedule_free import schedule_free_adamw, schedule_free_adamw_average
from .sgd import sgd

__all__ = [
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "amsgrad",
    "asgd",
    "asgd_average",
    "ftrl",
    "lamb",
    "lion",
    "momentum",
    "muon",
    "nadam",
    "nesterov",
    "nesterov_look_ahead",
    "newton",
    "newton_cg",
    "radam",
    "rmsprop",
    "rprop",
    "schedule_free_adamw",
    "schedule_free_adamw_average",
    "sgd",
]

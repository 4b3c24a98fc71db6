"""How do gradients change Parameters? Optimizers: SGD and Adam."""

from pellucid.optim.adam import Adam
from pellucid.optim.optimizer import Optimizer
from pellucid.optim.sgd import SGD

__all__ = ["SGD", "Adam", "Optimizer"]

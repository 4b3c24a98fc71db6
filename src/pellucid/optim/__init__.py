"""How do gradients change Parameters? Optimizers, and schedules of their learning rate."""

from pellucid.optim import schedules
from pellucid.optim.adam import Adam, AdamW
from pellucid.optim.optimizer import Optimizer
from pellucid.optim.sgd import SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "schedules"]

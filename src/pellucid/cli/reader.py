"""What does a new process make of a saved model? It is told the model's name and the file.

    python -P -m pellucid.cli.reader cnn weights.safetensors

It builds the model, loads the weights, reads the test images and prints, as JSON, its guesses and
the fingerprints of all bits that it saw.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pellucid as pe
from pellucid import nn
from pellucid.cli.model import MODELS


@dataclass(frozen=True)
class Reading:
    """What a model makes of some images: a digit each, and fingerprints of weights and scores."""

    guesses: NDArray[Any]
    weights: str
    scores: str

    def to_json(self) -> str:
        """The reading as one line of text."""
        told = {"guesses": self.guesses.tolist(), "weights": self.weights, "scores": self.scores}
        return json.dumps(told)

    @staticmethod
    def from_json(text: str) -> Reading:
        """The reading that `to_json` wrote."""
        told = json.loads(text)
        return Reading(np.array(told["guesses"]), told["weights"], told["scores"])


def read(model: nn.Module, images: NDArray[Any]) -> Reading:
    """Let a model read images (n, 8, 8), compiled."""
    scores = np.asarray(pe.jit(model)(with_channel(images)))
    weights = hashlib.sha256()
    for path, parameter in model.named_parameters().items():
        weights.update(path.encode())
        weights.update(parameter.numpy().tobytes())
    digest = hashlib.sha256(scores.tobytes()).hexdigest()
    return Reading(scores.argmax(axis=1), weights.hexdigest(), digest)


def reload(name: str, path: str) -> nn.Module:
    """The model of this name with the weights of a file. Raises CheckpointError."""
    model = MODELS[name]()
    nn.summary(model, (1, 8, 8, 1))  # finds its shapes, makes its Parameters, computes nothing
    nn.load_weights(model, path)
    return model


def with_channel(images: NDArray[Any]) -> NDArray[Any]:
    """Images (n, 8, 8) as a convolution takes them: with an axis of one channel."""
    return images[..., None]


def main() -> None:
    """Read the test images with the model and the weights that the command line names."""
    name, path = sys.argv[1:]
    print(read(reload(name, path), pe.data.digits().test_images).to_json())


if __name__ == "__main__":
    main()

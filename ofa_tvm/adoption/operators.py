"""OperatorGraph: a model as single operators, in ONNX's words, before it becomes layers."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofa_tvm.support.errors import UserError

Array = NDArray[Any]
DAMAGES = (
    *(KeyError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError, StopIteration),
    *(OSError, NotImplementedError, RecursionError, MemoryError, EOFError, zipfile.BadZipFile),
)
"""What reading a damaged file may raise."""


@contextmanager
def reading(what: str, hint: str) -> Iterator[None]:
    """Report what a damaged model raises as the user's error.

    Raises:
        UserError: something was raised.
    """
    try:
        yield
    except DAMAGES as error:
        said = " ".join(f"{type(error).__name__} {error}".split())[:200]
        raise UserError(f"{what} is damaged, or of a form that is not known: {said}", hint) from error


@dataclass(eq=False)
class Operator:
    """One operator.

    Args:
        kind: ONNX's name of it, or one of ours that ``rewrites`` puts in its place.
        name: where it is, in the words of the model.
        inputs: names of what it reads; "" where an input is left out.
        output: name of what it writes.
        attributes: by ONNX's names.
    """

    kind: str
    name: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} '{self.name or self.output}'"


@dataclass(eq=False)
class OperatorGraph:
    """A model with one input and one output, for one image.

    Args:
        input: name of the image (1, channels, height, width).
        output: name of the result.
        operators: in an order in which they can run.
        constants: weights and other numbers, by name.
        shapes: of everything that is computed, by name.
    """

    input: str
    output: str
    operators: list[Operator]
    constants: dict[str, Array]
    shapes: dict[str, tuple[int, ...]]

    def producer(self, name: str) -> Operator | None:
        """What writes a tensor; None for constants and the image."""
        return next((operator for operator in self.operators if operator.output == name), None)

    def readers(self, name: str) -> list[Operator]:
        """What reads a tensor, once for each time that it does."""
        return [operator for operator in self.operators for source in operator.inputs if source == name]

    def only_reader(self, name: str) -> Operator | None:
        """What alone reads a tensor; None where several do, or it is the result."""
        readers = self.readers(name)
        return readers[0] if len(readers) == 1 and name != self.output else None

    def number(self, name: str) -> float | None:
        """A constant that is one number."""
        array = self.constants.get(name)
        return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None

    def operands(self, operator: Operator) -> tuple[str, str | None]:
        """What is computed among the two inputs of an operator, and the constant, if there is one."""
        first, second = operator.inputs
        if first in self.constants:
            first, second = second, first
        return first, second if second in self.constants else None

    def replace(self, old: Sequence[Operator], new: Operator) -> None:
        """Put one operator in the place of several; it writes what the last one did."""
        self.operators[self.operators.index(old[-1])] = new
        for operator in old[:-1]:
            self.operators.remove(operator)

    def remove(self, operator: Operator) -> None:
        """Let its readers read what it reads first."""
        source = operator.inputs[0]
        self.operators.remove(operator)
        for other in self.operators:
            other.inputs = [source if name == operator.output else name for name in other.inputs]
        if self.output == operator.output:
            self.output = source

    def weight(self, operator: Operator, index: int) -> NDArray[np.float32]:
        """The constant that is an operator's input of that number.

        Raises:
            UserError: it is computed, or is no float32.
        """
        name = operator.inputs[index]
        array = self.constants.get(name)
        if array is None:
            raise refused(operator, "its weights are computed", "export the model with constant weights")
        return np.asarray(array, np.float32)


def refused(operator: Operator | str, why: str, hint: str) -> UserError:
    """The error of what cannot be taken."""
    return UserError(f"{operator} cannot be taken: {why}", hint)

"""Families of operations and their arms. A family is a module in families/ that registers itself when it is imported."""

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Callable

import catalog
import families

# Arms that are no peers: what the row is measured against. The report knows these names.
OURS, COPY, MATMUL, ORACLE = "ours", "copy", "matmul", "oracle"
FAMILIES = {}


class Arm:
    """One way to do the work of a problem."""

    name = ""
    # Whether preparing a shape takes so long (compiling, tuning) that it is held to a part of the budget.
    slow = False
    # Whether it does all of the work, so that its outputs are compared.
    whole = True

    def absent(self, backend):
        """Why it cannot take part in this process at all, or None."""
        return None

    def unsuited(self, problem):
        """Why it cannot do this shape, or None."""
        return None

    def work(self, problem, whole):
        """Bytes and operations, given those of the whole operation."""
        return whole

    def prepare(self, problem):
        """What does the work on one copy: run(copy) returns the outputs, in the problem's order."""
        raise NotImplementedError


class TorchArm(Arm):
    """An arm that works on tensors."""

    # A module that it needs, and what to do where that is missing.
    module = None

    def absent(self, backend):
        if backend.name != "torch":
            return "needs PyTorch"
        if self.module is not None:
            try:
                importlib.import_module(self.module)
            except Exception as error:  # Whatever a package of others raises when it is imported.
                return f"{self.module} cannot be imported: {error}"
        return None


class DeviceArm(TorchArm):
    """An arm that needs a GPU as well."""

    def absent(self, backend):
        return super().absent(backend) or (None if backend.queue_name.startswith("cuda") else "needs a GPU")


@dataclass
class Family:
    name: str
    # (entry) -> (bytes, flops)
    work: Callable
    # (entry) -> the largest error, over the largest exact value, that ours may have
    tolerance: Callable
    # (entry, backend, library, copies) -> a problem: `entry`, `backend`, `copies`, and `error(outputs)`
    problem: Callable
    arms: list = field(default_factory=list)
    # Of the list of shapes: those that these arms can run.
    operations: tuple = ()

    def shapes(self):
        return [entry for entry in catalog.shapes(self.name) if entry.operation in self.operations]


def register(family):
    FAMILIES[family.name] = family
    return family


def load():
    """All families, by name."""
    for module in pkgutil.iter_modules(families.__path__, "families."):
        importlib.import_module(module.name)
    return FAMILIES

"""Families of operations and their arms. A family is a package in families/ that registers itself when it is imported."""

import importlib
import pkgutil
from dataclasses import dataclass

import catalog
import families

# Arms that are no peers: what the row is measured against. The report knows these names.
OURS, COPY, MATMUL, ORACLE = "ours", "copy", "matmul", "oracle"
FAMILIES = {}


class Arm:
    """One way to do the work of a problem."""

    name = ""
    # Of the operations that it takes part in.
    operations = ()
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
        """What does the work on one copy: run(copy) returns what it made."""
        raise NotImplementedError

    def outputs(self, problem, made):
        """What it made, in the problem's order and layout. Not timed."""
        return made


class TorchArm(Arm):
    """An arm that works on tensors."""

    # A module that it needs.
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
    # The problem of each operation, a class of problem.Problem.
    problems: dict
    arms: list

    def shapes(self):
        return [entry for entry in catalog.shapes(self.name) if entry.operation in self.problems]

    def arms_of(self, operation):
        return [arm for arm in self.arms if operation in arm.operations]


def register(family):
    FAMILIES[family.name] = family
    return family


def arms_in(package):
    """Of all modules of a package: their ARMS, in the order of the modules' names."""
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."))
    return [arm for name in names for arm in importlib.import_module(name).ARMS]


def load():
    """All families, by name."""
    for module in pkgutil.iter_modules(families.__path__, "families."):
        importlib.import_module(module.name)
    return FAMILIES

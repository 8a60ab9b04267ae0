"""What a family's problems have in common."""

import ctypes
from dataclasses import dataclass, field

import abi
from backends import Matrix

# Two roundings of the largest value; f32 has room for its sums.
ROUNDINGS = {"bf16": 2.0**-7, "f16": 2.0**-10, "f32": 2.0**-16}
# Rows of an output that are compared with f64, at most.
SAMPLE = 16


def sample(count):
    """Rows to compare: all of few, else some spread over them, the first and the last among them."""
    return list(range(count)) if count <= SAMPLE else [i * (count - 1) // (SAMPLE - 1) for i in range(SAMPLE)]


@dataclass
class Call:
    """One call of the library: the C function, its descriptor, what the descriptor points to, and the outputs."""

    function: str
    descriptor: object
    outputs: list
    kept: list = field(default_factory=list)
    # Where it is not the function's name and `_pick`: the function that names the kernel, and its arguments after the descriptor.
    pick: tuple = ()


class Problem:
    """An entry of the list of shapes with operands for it: as many copies as are rotated."""

    def __init__(self, entry, backend, library, copies):
        self.entry, self.backend, self.library = entry, backend, library
        self.operation = entry.operation
        self.types = entry.element_types
        self.copies = [self.copy() for _ in range(copies)]

    @classmethod
    def work(cls, entry):
        """Bytes, every operand once, and the operations of the formula."""
        raise NotImplementedError

    @classmethod
    def tolerance(cls, entry):
        """The largest error that ours may have, over the largest exact value of the output."""
        return ROUNDINGS[entry.element_types[0]]

    @classmethod
    def peers_tolerance(cls, entry):
        """Of a peer. They round intermediates, to 16 bits where x has those."""
        return 4 * ROUNDINGS[entry.element_types[0]]

    def copy(self):
        """One copy of the operands."""
        raise NotImplementedError

    def call(self, copy):
        """Ours, on a copy: a Call."""
        raise NotImplementedError

    def exact(self):
        """For each output of the first copy: the rows to compare, and their values in f64 from the rounded inputs."""
        raise NotImplementedError

    def error(self, outputs):
        """The error of the first copy's outputs, as a row of the results has it: of each output over its own largest value, and the worst of those."""
        largest = relative = 0.0
        compared = 0
        for output, (rows, exact) in zip(outputs, self.exact(), strict=True):
            got = output.f64(rows) if isinstance(output, Matrix) else self.backend.f64(output[rows], None)
            if tuple(got.shape) != tuple(exact.shape):
                raise ArithmeticError(f"an output is {tuple(got.shape)}, expected {tuple(exact.shape)}")
            difference, scale = float(abs(got - exact).max()), float(abs(exact).max())
            if difference - difference != 0:  # max() would drop NaN.
                return {"largest": None, "relative": None, "rows": len(rows)}
            largest = max(largest, difference)
            relative = max(relative, difference / scale if scale else difference)
            compared = max(compared, len(rows))
        return {"largest": largest, "relative": relative, "rows": compared}

    def workspace(self, function, descriptor):
        """Makes the descriptor's workspace; it must live as long."""
        size = ctypes.c_uint64(0)
        self.library.call(f"{function}_workspace", ctypes.byref(descriptor), ctypes.byref(size))
        memory = self.backend.scratch(size.value, abi.PK_WORKSPACE_ALIGNMENT)
        descriptor.workspace, descriptor.workspace_bytes = self.backend.address(memory), size.value
        return memory

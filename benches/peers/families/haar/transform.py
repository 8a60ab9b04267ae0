"""haar.forward_1d, inverse_1d, forward_2d and inverse_2d of a matrix whose extents are multiples of 2^levels; of one along rows, each row is a signal."""

import ctypes
from types import SimpleNamespace

import abi
from backends import SIZES
from library import matrix
from problem import Call, Problem, sample

from .lifting import FUNCTIONS


class Transform(Problem):
    def __init__(self, entry, *arguments):
        self.shape, self.levels = (entry.extents["rows"], entry.extents["columns"]), entry.extents["levels"]
        self.both, self.inverse = entry.operation.endswith("_2d"), "inverse" in entry.operation
        super().__init__(entry, *arguments)

    @classmethod
    def work(cls, entry):
        """A sum of two elements for each axis, of a level and of all that follow: less than twice the first."""
        elements = entry.extents["rows"] * entry.extents["columns"]
        return 2 * SIZES[entry.element_types[0]] * elements, (3 if entry.operation.endswith("_2d") else 2) * elements

    def copy(self):
        return SimpleNamespace(source=self.backend.random(self.shape, self.types[0], 1.0), made=self.backend.empty(self.shape, self.types[0]))

    def exact(self):
        rows, source = sample(self.shape[0]), self.copies[0].source
        if self.both:
            return [(rows, FUNCTIONS[self.operation](source.f64(), self.levels)[rows])]
        return [(rows, FUNCTIONS[self.operation](source.f64(rows), self.levels))]

    def call(self, copy):
        descriptor = abi.pk_haar_descriptor(size=ctypes.sizeof(abi.pk_haar_descriptor))
        descriptor.source, descriptor.destination, descriptor.levels = matrix(copy.source), matrix(copy.made), self.levels
        descriptor.axes = abi.PK_HAAR_ALONG_BOTH if self.both else abi.PK_HAAR_ALONG_COLUMNS
        function = "pk_haar_inverse" if self.inverse else "pk_haar_forward"
        return Call(function, descriptor, [copy.made], pick=("pk_haar_pick", int(self.inverse)))

"""haar.hadamard: the orthonormal Walsh–Hadamard transform of each row."""

import ctypes
from types import SimpleNamespace

import abi
from backends import SIZES
from library import matrix
from problem import Call, Problem, sample

from .lifting import hadamard


class Hadamard(Problem):
    def __init__(self, entry, *arguments):
        self.shape = entry.extents["rows"], entry.extents["columns"]
        super().__init__(entry, *arguments)

    @classmethod
    def work(cls, entry):
        elements = entry.extents["rows"] * entry.extents["columns"]
        return 2 * SIZES[entry.element_types[0]] * elements, elements * (entry.extents["columns"].bit_length() - 1)

    def copy(self):
        return SimpleNamespace(source=self.backend.random(self.shape, self.types[0], 1.0), made=self.backend.empty(self.shape, self.types[0]))

    def exact(self):
        rows = sample(self.shape[0])
        return [(rows, hadamard(self.copies[0].source.f64(rows)))]

    def call(self, copy):
        descriptor = abi.pk_haar_hadamard_descriptor(size=ctypes.sizeof(abi.pk_haar_hadamard_descriptor), normalized=1)
        descriptor.source, descriptor.destination = matrix(copy.source), matrix(copy.made)
        return Call("pk_haar_hadamard", descriptor, [copy.made])

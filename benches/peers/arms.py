"""Arms that every family has: this library, a copy of as many bytes, and formulas in numpy and PyTorch."""

import ctypes

from backends import SIZES
from family import COPY, MATMUL, OURS, Arm, DeviceArm, TorchArm


class Ours(Arm):
    """This library, through its C interface."""

    name = OURS

    def __init__(self, operations):
        self.operations = tuple(operations)

    def prepare(self, problem):
        calls = [problem.call(copy) for copy in problem.copies]
        function, queue = calls[0].function, problem.backend.queue
        pick, *arguments = calls[0].pick or (f"{function}_pick",)
        self.kernel = problem.library.kernel(queue(), pick, calls[0].descriptor, *arguments)

        def run(copy):
            problem.library.call(function, ctypes.byref(queue()), ctypes.byref(calls[copy].descriptor))
            return calls[copy].outputs

        return run


class MemoryCopy(Arm):
    """A copy that reads and writes as many bytes."""

    name, whole = COPY, False

    def __init__(self, operations):
        self.operations = tuple(operations)

    def work(self, problem, whole):
        return whole[0], 0

    def prepare(self, problem):
        nbytes, _ = problem.work(problem.entry)
        copiers = [problem.backend.copier(nbytes) for _ in problem.copies]
        return lambda copy: copiers[copy]()


class BaseAlone(Arm):
    """A product of two operands alone, the first times the other transposed or not: x times W, or of a backward pass dY times W."""

    name, whole = MATMUL, False

    def __init__(self, operation, operands, transposed):
        self.operations, self.operands, self.transposed = (operation,), operands, transposed

    def extents(self, problem):
        (m, k), w = self.operands(problem.copies[0])[0].shape, self.operands(problem.copies[0])[1].shape
        return m, w[0] if self.transposed else w[1], k

    def work(self, problem, whole):
        m, n, k = self.extents(problem)
        return SIZES[problem.types[0]] * (m * k + n * k + m * n), 2 * m * n * k

    def prepare(self, problem):
        def pair(copy):
            # numpy multiplies f32 and f64 alone.
            left, right = (m.data if problem.backend.name == "torch" else m.f64().astype("float32") for m in self.operands(copy))
            return left, right.T if self.transposed else right

        pairs = [pair(copy) for copy in problem.copies]
        return lambda copy: pairs[copy][0] @ pairs[copy][1]


class Formula:
    """A formula: (problem) -> a function of operands that returns outputs, and (copy) -> those operands."""

    def __init__(self, operations, formula, operands, name=None, unsuited=None):
        self.operations = (operations,) if isinstance(operations, str) else tuple(operations)
        self.formula, self.operands, self.reason = formula, operands, unsuited
        self.name = name or self.name

    def unsuited(self, problem):
        return self.reason and self.reason(problem)

    def tensors(self, problem, copy):
        """Operands as tensors; factors in x's type, which products ask for."""
        kinds, (x, factors) = problem.backend.types, problem.types
        return [operand.data.to(kinds[x] if operand.type == factors else operand.data.dtype) for operand in self.operands(copy)]


class NumpyFormula(Formula, Arm):
    """In numpy's f64: no competitor, but a second opinion where there is no GPU."""

    name = "numpy, f64"

    def absent(self, backend):
        return None if backend.name == "numpy" else "takes part only without PyTorch"

    def prepare(self, problem):
        function = self.formula(problem)
        operands = [[operand.f64() for operand in self.operands(copy)] for copy in problem.copies]
        return lambda copy: function(*operands[copy])


class TorchFormula(Formula, TorchArm):
    """As PyTorch runs it, one kernel or more an operation."""

    name = "torch"

    def prepare(self, problem):
        function = self.formula(problem)
        operands = [self.tensors(problem, copy) for copy in problem.copies]
        return lambda copy: function(*operands[copy])


class CompiledFormula(Formula, DeviceArm):
    """As torch.compile makes it."""

    name, slow = "torch.compile", True

    def prepare(self, problem):
        function = compiled(self.formula(problem))
        operands = [self.tensors(problem, copy) for copy in problem.copies]
        return lambda copy: function(*operands[copy])


class AutogradFormula(Formula, TorchArm):
    """Gradients of a formula's one output by PyTorch's autograd. Its forward pass is no part of the time.

    Operands are the gradient of the output, then those of the formula; `wanted` names the ones whose gradients are asked for, by place among the latter.
    """

    name = "torch autograd"

    def __init__(self, operations, formula, operands, wanted, **more):
        super().__init__(operations, formula, operands, **more)
        self.wanted = wanted

    def function(self, problem):
        return self.formula(problem)

    def prepare(self, problem):
        torch, function, graphs = problem.backend.torch, self.function(problem), []
        for copy in problem.copies:
            dy, *operands = self.tensors(problem, copy)
            operands = [operand.detach() for operand in operands]
            wanted = [operands[place].requires_grad_() for place in self.wanted(problem)]
            with torch.enable_grad():
                graphs.append((function(*operands)[0], wanted, dy))
        return lambda copy: gradients(*graphs[copy])


class CompiledAutograd(AutogradFormula, DeviceArm):
    """The same, forward and backward as torch.compile makes them."""

    name, slow = "torch.compile", True

    def function(self, problem):
        return compiled(self.formula(problem))


def gradients(y, wanted, dy):
    """The graph is kept for the next call."""
    import torch

    return list(torch.autograd.grad(y, wanted, dy, retain_graph=True))


def compiled(function):
    """As fast as torch.compile makes it, of these shapes alone."""
    import torch
    import torch._functorch.config

    torch._dynamo.reset()
    # A graph whose buffers are given away runs backward once only.
    torch._functorch.config.donated_buffer = False
    return torch.compile(function, mode="max-autotune-no-cudagraphs", dynamic=False, fullgraph=True)

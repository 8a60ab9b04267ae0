"""Walsh–Hadamard: Dao's CUDA kernel, a product with the whole matrix by cuBLAS, and SciPy's matrix on the host."""

from family import Arm, DeviceArm, TorchArm

# Extents of a matrix that is multiplied whole, at most: of 8192 it is 128 MB in 16 bits.
DENSE = 8192


class Dao(DeviceArm):
    """fast_hadamard_transform, whose kernels exchange through shared memory as ours do."""

    name, operations, module = "fast_hadamard_transform", ("haar.hadamard",), "fast_hadamard_transform"

    def prepare(self, problem):
        from fast_hadamard_transform import hadamard_transform

        scale = problem.shape[1] ** -0.5
        return lambda copy: [hadamard_transform(problem.copies[copy].source.data, scale)]


class Dense(TorchArm):
    name, operations = "cuBLAS, whole matrix", ("haar.hadamard",)

    def unsuited(self, problem):
        return f"rows of at most {DENSE} elements" if problem.shape[1] > DENSE else None

    def prepare(self, problem):
        import torch

        h = torch.ones(1, 1, device=problem.backend.place)
        while h.shape[0] < problem.shape[1]:
            h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)], 0)
        # Ones are exact in every type; the scale is that of the product.
        h, scale = h.to(problem.backend.types[problem.types[0]]), problem.shape[1] ** -0.5
        return lambda copy: [(problem.copies[copy].source.data @ h).mul_(scale)]


class Scipy(Arm):
    name, operations = "SciPy", ("haar.hadamard",)

    def absent(self, backend):
        if backend.name != "numpy":
            return "takes part only without PyTorch"
        try:
            import scipy.linalg  # noqa: F401
        except ImportError as error:
            return str(error)
        return None

    def prepare(self, problem):
        import scipy.linalg

        h = scipy.linalg.hadamard(problem.shape[1]) * problem.shape[1] ** -0.5
        sources = [copy.source.f64() for copy in problem.copies]
        return lambda copy: [sources[copy] @ h]


ARMS = [Dao(), Dense(), Scipy()]

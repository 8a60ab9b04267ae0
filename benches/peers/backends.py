"""Whose memory the operands are in: numpy's, for the emulator, or PyTorch's, for a device (or for the emulator, to rehearse)."""

import ctypes

import numpy

import abi
from clock import GraphClock, WallClock
from library import queue

NUMPY_TYPES = {"f32": numpy.float32, "f16": numpy.float16, "bf16": numpy.uint16}
SIZES = {"f32": 4, "f16": 2, "bf16": 2}


class Matrix:
    """Elements of one of the library's types. numpy has no bf16: there `data` holds its bits."""

    def __init__(self, backend, data, element_type):
        self.backend, self.data, self.type = backend, data, element_type

    @property
    def shape(self):
        return tuple(self.data.shape)

    @property
    def address(self):
        return self.backend.address(self.data)

    @property
    def strides(self):
        return self.backend.strides(self.data)

    def f64(self, rows=None):
        """The numbers, of all rows or of some."""
        return self.backend.f64(self.data if rows is None else self.data[rows], self.type)


def bf16_bits(values):
    """f32 numbers rounded to bf16, as their bits."""
    bits = values.astype(numpy.float32).view(numpy.uint32).astype(numpy.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)


def bf16_values(bits):
    return (bits.astype(numpy.uint32) << 16).view(numpy.float32)


class Emulator:
    """What memory of the host has in common: the library's emulator, the wall clock, one copy of everything."""

    queue_name = "emulator"
    clock = WallClock()

    def queue(self):
        return queue(abi.PK_QUEUE_EMULATOR, 90, 1)

    def rotation(self, _nbytes):
        return 1, "warm"

    def device(self):
        return None


class NumpyBackend(Emulator):
    name = "numpy"

    def __init__(self, seed):
        self.generator = numpy.random.default_rng(seed)

    def software(self):
        return {"numpy": numpy.__version__}

    def matrix(self, data, element_type):
        return Matrix(self, data, element_type)

    def random(self, shape, element_type, limit):
        values = self.generator.uniform(-limit, limit, shape).astype(numpy.float32)
        data = bf16_bits(values) if element_type == "bf16" else values.astype(NUMPY_TYPES[element_type])
        return Matrix(self, data, element_type)

    def empty(self, shape, element_type):
        """Filled with NaN."""
        data = numpy.full(shape, numpy.nan, numpy.float32)
        data = bf16_bits(data) if element_type == "bf16" else data.astype(NUMPY_TYPES[element_type])
        return Matrix(self, data, element_type)

    def rounded(self, values, element_type):
        """Numbers of f64 in an element type."""
        data = bf16_bits(values) if element_type == "bf16" else values.astype(NUMPY_TYPES[element_type])
        return Matrix(self, numpy.ascontiguousarray(data), element_type)

    def zeros(self, shape, kind):
        return Matrix(self, numpy.zeros(shape, {"u8": numpy.uint8}[kind]), kind)

    def to_numpy(self, data):
        return data

    def from_numpy(self, data):
        return data

    def integers(self, values):
        return numpy.array(values, numpy.int32)

    def scratch(self, size, alignment):
        """That many bytes at a multiple of the alignment."""
        memory = numpy.empty(size + alignment, numpy.uint8)
        start = -memory.ctypes.data % alignment
        return memory[start : start + size]

    def bytes(self, content, alignment):
        memory = self.scratch(len(content), alignment)
        memory[:] = numpy.frombuffer(content, numpy.uint8)
        return memory

    def address(self, data):
        return data.ctypes.data

    def strides(self, data):
        return tuple(stride // data.itemsize for stride in data.strides)

    def f64(self, data, element_type):
        values = bf16_values(data) if element_type == "bf16" else data
        return values.astype(numpy.float64)

    def copier(self, nbytes):
        source = numpy.ones(max(nbytes // 2, 1), numpy.uint8)
        destination = numpy.empty_like(source)
        return lambda: numpy.copyto(destination, source)


class TorchMemory:
    """Tensors of PyTorch."""

    name = "torch"

    def __init__(self, seed, device):
        import torch

        self.torch, self.place = torch, device
        torch.set_float32_matmul_precision("highest")  # no TF32
        torch.set_grad_enabled(False)  # Arms of backward passes ask for it.
        self.types = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
        self.generator = torch.Generator(device).manual_seed(seed)

    def software(self):
        matmul = self.torch.backends.cuda.matmul
        found = {"torch": self.torch.__version__, "numpy": numpy.__version__, "float32_matmul_precision": self.torch.get_float32_matmul_precision()}
        for name in ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"):
            try:
                found[name] = str(getattr(matmul, name))
            except (AttributeError, AssertionError):  # An older PyTorch, which asserts.
                found[name] = "unknown"
        return found

    def matrix(self, data, element_type):
        return Matrix(self, data, element_type)

    def random(self, shape, element_type, limit):
        values = self.torch.rand(shape, generator=self.generator, device=self.place)
        return Matrix(self, values.mul_(2 * limit).sub_(limit).to(self.types[element_type]), element_type)

    def empty(self, shape, element_type):
        """Filled with NaN."""
        data = self.torch.full(shape, float("nan"), dtype=self.types[element_type], device=self.place)
        return Matrix(self, data, element_type)

    def rounded(self, values, element_type):
        """Numbers of f64 in an element type."""
        return Matrix(self, values.to(self.types[element_type]).contiguous(), element_type)

    def zeros(self, shape, kind):
        return Matrix(self, self.torch.zeros(shape, dtype={"u8": self.torch.uint8}[kind], device=self.place), kind)

    def to_numpy(self, data):
        return data.cpu().numpy()

    def from_numpy(self, data):
        return self.torch.from_numpy(data).to(self.place)

    def integers(self, values):
        return self.torch.tensor(values, dtype=self.torch.int32, device=self.place)

    def scratch(self, size, alignment):
        """That many bytes at a multiple of the alignment."""
        memory = self.torch.empty(size + alignment, dtype=self.torch.uint8, device=self.place)
        start = -memory.data_ptr() % alignment
        return memory[start : start + size]

    def bytes(self, content, alignment):
        memory = self.scratch(len(content), alignment)
        return memory.copy_(self.torch.frombuffer(bytearray(content), dtype=self.torch.uint8))

    def address(self, data):
        return data.data_ptr()

    def strides(self, data):
        return tuple(data.stride())

    def f64(self, data, _element_type):
        return data.double()

    def copier(self, nbytes):
        source = self.torch.ones(max(nbytes // 2, 1), dtype=self.torch.uint8, device=self.place)
        destination = self.torch.empty_like(source)
        return lambda: destination.copy_(source)


class TorchCpu(TorchMemory, Emulator):
    def __init__(self, seed):
        super().__init__(seed, "cpu")


class TorchCuda(TorchMemory):
    queue_name = "cuda:0"
    # Copies that are rotated, at most.
    COPIES = 64

    def __init__(self, seed):
        # Not the default stream, which cannot be captured: everything runs where it is captured, as autograd asks for, which runs a gradient where its forward pass ran.
        import torch

        torch.cuda.set_stream(torch.cuda.Stream())
        super().__init__(seed, "cuda")
        self.clock = GraphClock(self.torch)
        self.properties = self.torch.cuda.get_device_properties(0)

    def queue(self):
        """On the current stream, which is that of a capture while one is made."""
        stream = self.torch.cuda.current_stream().cuda_stream
        return queue(abi.PK_QUEUE_CUDA, self.torch.cuda.current_device(), stream)

    def rotation(self, nbytes):
        """Copies of operands of so many bytes that are four times the L2 cache together, at least two."""
        copies = max(-(-4 * self.l2_bytes() // max(nbytes, 1)), 2)
        return (copies, "cold") if copies <= self.COPIES else (self.COPIES, "warm")

    def l2_bytes(self):
        # Where PyTorch does not say, as much as the largest chip has.
        return getattr(self.properties, "L2_cache_size", 0) or 128 << 20

    def device(self):
        driver = ctypes.c_int(0)
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(driver))
        properties = self.properties
        return {
            "name": properties.name,
            "driver": f"{driver.value // 1000}.{driver.value % 1000 // 10}",
            "compute_capability": 10 * properties.major + properties.minor,
            "multiprocessors": properties.multi_processor_count,
            "memory_bytes": properties.total_memory,
            "l2_bytes": self.l2_bytes(),
        }


def choose(name, seed):
    """The backend of that name; `auto` is a device if PyTorch finds one, else numpy and the emulator."""
    if name == "auto":
        try:
            import torch

            name = "cuda" if torch.cuda.is_available() else "numpy"
        except ImportError:
            name = "numpy"
    return {"cuda": TorchCuda, "torch-cpu": TorchCpu, "numpy": NumpyBackend}[name](seed)

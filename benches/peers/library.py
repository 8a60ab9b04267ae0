"""The shared library, through ctypes. Never creates a context, never allocates: addresses and streams are the caller's."""

import ctypes

import abi

ELEMENT_TYPES = {"f32": abi.PK_F32, "f16": abi.PK_F16, "bf16": abi.PK_BF16}


class LibraryError(Exception):
    """A call that was refused, with the library's own text."""


class Library:
    def __init__(self, path):
        self.dll = ctypes.CDLL(str(path))
        for name, (result, arguments) in abi.FUNCTIONS.items():
            function = getattr(self.dll, name)
            function.restype, function.argtypes = result, arguments
        version = self.dll.pk_abi_version()
        if version != abi.PK_ABI_VERSION:
            raise LibraryError(f"{path} has ABI {version}, expected {abi.PK_ABI_VERSION}")

    def has(self, kind):
        return bool(self.dll.pk_has_queue(kind))

    def call(self, name, *arguments):
        status = getattr(self.dll, name)(*arguments)
        if status != abi.PK_OK:
            length = self.dll.pk_last_error(None, 0)
            text = ctypes.create_string_buffer(length + 1)
            self.dll.pk_last_error(text, length + 1)
            raise LibraryError(f"{name} returned {status}: {text.value.decode()}")

    def kernel(self, queue, pick, descriptor, *arguments):
        """The name of the kernel that runs a descriptor on a queue's chip. Some have arguments after the descriptor."""
        chip = abi.pk_chip(size=ctypes.sizeof(abi.pk_chip))
        choice = abi.pk_kernel_choice()
        self.call("pk_queue_chip", ctypes.byref(queue), ctypes.byref(chip))
        self.call(pick, ctypes.byref(chip), ctypes.byref(descriptor), *arguments, ctypes.byref(choice))
        return choice.name.decode()


def queue(kind, device, stream):
    return abi.pk_queue(size=ctypes.sizeof(abi.pk_queue), kind=kind, device=device, stream=stream)


def matrix(operand):
    """A Matrix of the backends as the C side names it."""
    rows, columns = operand.shape
    row_stride, column_stride = operand.strides
    return abi.pk_matrix(operand.address, rows, columns, row_stride, column_stride, 0, ELEMENT_TYPES[operand.type], 0)


def adapter(a, b, scale):
    return abi.pk_lora_adapter(a.address, b.address, *a.strides, *b.strides, a.shape[0], scale)

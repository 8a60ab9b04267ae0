"""bitsandbytes' NF4 linear layer. It is compared with a LoRA layer on an NF4 base, which this library does not have yet."""

from family import TorchArm


class BitsandbytesNf4(TorchArm):
    name = "bitsandbytes NF4"
    module = "bitsandbytes"

    def absent(self, backend):
        return "this library has no NF4 base to compare with yet"


ARMS = [BitsandbytesNf4()]

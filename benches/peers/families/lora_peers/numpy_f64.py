"""The formula in numpy's f64: no competitor, but a second opinion where there is no GPU."""

from family import Arm


class NumpyF64(Arm):
    name = "numpy, f64"

    def absent(self, backend):
        return None if backend.name == "numpy" else "takes part only without PyTorch"

    def prepare(self, problem):
        from families.lora import SCALE

        def operands(copy):
            x = copy.x.f64() if copy.x else None
            return x, [w.f64() for w in copy.w], [[m.f64() for m in a] for a in copy.a], [[m.f64() for m in b] for b in copy.b]

        operands = [operands(copy) for copy in problem.copies]

        def run(copy):
            x, w, a, b = operands[copy]
            if problem.is_merge:
                return [w[0] + SCALE * b[0][0] @ a[0][0]]
            outputs = []
            for w, a, b in zip(w, a, b):
                y = x @ w.T
                for index in range(problem.adapters):
                    mine = slice(index, None, problem.adapters)
                    y[mine] += SCALE * (x[mine] @ a[index].T) @ b[index].T
                outputs.append(y)
            return outputs

        return run


ARMS = [NumpyF64()]

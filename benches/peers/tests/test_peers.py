"""What can be tested without a GPU: `python3 -m unittest discover benches/peers/tests`. PEFT_KERNELS_LIBRARY names the shared library."""

import contextlib
import ctypes
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
import unittest
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1]
ROOT = PEERS.parents[1]
sys.path.insert(0, str(PEERS))
sys.dont_write_bytecode = True

import numpy  # noqa: E402

import abi  # noqa: E402
import backends  # noqa: E402
import catalog  # noqa: E402
import clock  # noqa: E402
import family  # noqa: E402
import make_abi  # noqa: E402
import results  # noqa: E402
import runner  # noqa: E402
from families.haar import lifting  # noqa: E402
from library import Library, LibraryError, matrix  # noqa: E402

LIBRARY = os.environ.get("PEFT_KERNELS_LIBRARY")


def structs():
    return [kind for kind in vars(abi).values() if isinstance(kind, type) and issubclass(kind, ctypes.Structure)]


class Interface(unittest.TestCase):
    def test_declarations_are_those_of_the_header(self):
        self.assertEqual((PEERS / "abi.py").read_text(), make_abi.generate())

    @unittest.skipUnless(shutil.which("cc"), "needs a C compiler")
    def test_structs_have_the_layout_that_c_gives_them(self):
        lines, expected = [], []
        for kind in structs():
            lines.append(f'printf("%zu\\n", sizeof({kind.__name__}));')
            expected.append(ctypes.sizeof(kind))
            for name, _ in kind._fields_:
                lines.append(f'printf("%zu\\n", offsetof({kind.__name__}, {name}));')
                expected.append(getattr(kind, name).offset)
        program = "#include <peft_kernels.h>\n#include <stddef.h>\n#include <stdio.h>\nint main(void) {\n" + "\n".join(lines) + "\n}\n"
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "layout.c"
            source.write_text(program)
            subprocess.run(["cc", f"-I{ROOT}/cuda/include", str(source), "-o", f"{folder}/layout"], check=True)
            printed = subprocess.run([f"{folder}/layout"], check=True, capture_output=True, text=True).stdout.split()
        self.assertGreaterEqual(len(expected), 80)
        self.assertEqual([int(number) for number in printed], expected)

    def test_header_structs_are_all_there(self):
        text = (ROOT / "cuda" / "include" / "peft_kernels.h").read_text()
        self.assertEqual(text.count("typedef struct"), len(structs()))
        self.assertEqual(text.count("\nPK_API "), len(abi.FUNCTIONS))


class Numbers(unittest.TestCase):
    def test_bf16_is_rounded_to_nearest_even(self):
        values = numpy.array([1.0, 1.00390625, 1.01171875, -3.140625, 65504.0, 1e-40], numpy.float32)
        rounded = backends.bf16_values(backends.bf16_bits(values))
        self.assertEqual(rounded[:4].tolist(), [1.0, 1.0, 1.015625, -3.140625])
        self.assertLess(abs(float(rounded[4]) - 65504.0), 256)
        self.assertEqual(backends.bf16_bits(rounded).tolist(), backends.bf16_bits(values).tolist())
        self.assertTrue(numpy.isnan(backends.bf16_values(backends.bf16_bits(numpy.array([numpy.nan], numpy.float32))))[0])

    def test_floors_are_the_larger_of_two_times(self):
        device = catalog.peaks("NVIDIA H100 80GB HBM3")
        self.assertIsNone(catalog.peaks("a device of no list"))
        self.assertEqual(catalog.floor(device, 3_350_000_000, 1, "bf16"), {"ns": 1e6, "bound": "bandwidth"})
        self.assertEqual(catalog.floor(device, 1, 1 << 40, "f32")["bound"], "tf32/3")
        self.assertIsNone(catalog.floor(None, 1, 1, "bf16"))

    def test_arms_take_turns(self):
        order = []

        def arm(name, milliseconds):
            return lambda loops: order.append(name) or milliseconds * loops * 1e-3

        times = clock.interleaved([arm("a", 2), arm("b", 2)], 4, 3)
        self.assertEqual("".join(order), "aabbababab")
        self.assertAlmostEqual(times[0]["median_ns"], 0.5e6)
        self.assertEqual(times[0]["rounds"], 3)


class FakeCuda:
    """As much of torch.cuda as the clock of graphs uses. A capture runs what it records, a replay takes 2 ms."""

    def __init__(self):
        self.now, self.capturing = 0.0, False
        self.CUDAGraph = self.current_stream = self.new

    def new(self):
        return types.SimpleNamespace(replay=self.replayed)

    def replayed(self):
        self.now += 2.0

    def Event(self, enable_timing):
        event = types.SimpleNamespace(at=None, synchronize=lambda: None, elapsed_time=lambda end: end.at - event.at)
        event.record = lambda: setattr(event, "at", self.now)
        return event

    def synchronize(self):
        pass

    @contextlib.contextmanager
    def graph(self, _, stream):
        self.capturing = True
        yield
        self.capturing = False


class Graphs(unittest.TestCase):
    def test_a_graph_holds_one_call_on_every_copy_and_its_replays_are_timed(self):
        cuda, calls = FakeCuda(), []
        graphs = clock.GraphClock(types.SimpleNamespace(cuda=cuda))
        elapsed = graphs.runner(3, lambda copy: calls.append((copy, cuda.capturing)))
        self.assertEqual(calls, [(0, False)] * 3 + [(0, True), (1, True), (2, True)])
        self.assertAlmostEqual(elapsed(5), 10e-3)
        self.assertGreater(graphs.eager_ns(3, lambda copy: calls.append(copy)), 0)
        self.assertEqual(calls[6:], [0, 1, 2] * 3)


class Families(unittest.TestCase):
    def test_every_operation_has_a_problem_and_peers(self):
        families = family.load()
        listed = catalog.read("shapes.json")["families"]
        self.assertEqual(set(families), set(listed))
        for name, shapes in listed.items():
            operations = {shape["operation"] for shape in shapes}
            self.assertEqual(operations, set(families[name].problems), name)
            for operation in operations:
                arms = families[name].arms_of(operation)
                self.assertEqual([arm.name for arm in arms[:2]], [family.OURS, family.COPY])
                names = [arm.name for arm in arms]
                self.assertEqual(len(names), len(set(names)), f"{operation}: {names}")
                # In PyTorch as it is, as torch.compile makes it, and without PyTorch.
                torch = [arm for arm in arms if isinstance(arm, family.TorchArm)]
                self.assertTrue(any(arm.name.startswith("torch.compile") for arm in torch), operation)
                self.assertTrue(any(not isinstance(arm, family.DeviceArm) for arm in torch), operation)
                self.assertTrue(any(arm.whole and not isinstance(arm, family.TorchArm) for arm in arms[2:]), operation)
            for arm in families[name].arms:
                self.assertTrue(arm.name and set(arm.operations) and set(arm.operations) <= operations, arm)

    def test_an_arm_that_needs_what_is_not_there_says_so(self):
        nowhere, device = types.SimpleNamespace(name="numpy", queue_name="emulator"), types.SimpleNamespace(name="torch", queue_name="emulator")
        for each in family.load().values():
            for arm in each.arms:
                if isinstance(arm, family.TorchArm):
                    self.assertEqual(arm.absent(nowhere), "needs PyTorch", arm.name)
                if isinstance(arm, family.DeviceArm):
                    self.assertRegex(arm.absent(device), "needs a GPU|cannot be imported", arm.name)

    def test_work_is_that_of_the_largest_operand_and_more(self):
        for name, each in family.load().items():
            for entry in each.shapes():
                nbytes, flops = each.problems[entry.operation].work(entry)
                self.assertIsInstance(nbytes, int)
                self.assertIsInstance(flops, int)
                e = entry.extents
                elements = e["rows"] * e["columns"] if name == "haar" else sum(e["n"]) * e["k"] if entry.operation != "lora.sample_norms" else e["m"] * e["k"]
                self.assertGreater(nbytes, elements * backends.SIZES[entry.element_types[0]], entry)


class Lifting(unittest.TestCase):
    """What is exact, against matrices of the definitions."""

    def test_one_level_is_the_definition(self):
        x = numpy.random.default_rng(1).standard_normal((4, 6))
        step = lambda n: numpy.concatenate([numpy.eye(n)[0::2] + numpy.eye(n)[1::2], numpy.eye(n)[0::2] - numpy.eye(n)[1::2]]) / 2**0.5  # noqa: E731
        numpy.testing.assert_allclose(lifting.forward_rows(x, 1), x @ step(6).T, atol=1e-14)
        numpy.testing.assert_allclose(lifting.forward_both(x, 1), step(4) @ x @ step(6).T, atol=1e-14)

    def test_an_inverse_goes_back(self):
        x = numpy.random.default_rng(1).standard_normal((24, 40))
        for there, back in ((lifting.forward_rows, lifting.inverse_rows), (lifting.forward_both, lifting.inverse_both)):
            for levels in (1, 2, 3):
                numpy.testing.assert_allclose(back(there(x, levels), levels), x, atol=1e-13)

    def test_hadamard_is_sylvester_s_matrix(self):
        two = numpy.array([[1, 1], [1, -1]]) / 2**0.5
        numpy.testing.assert_allclose(lifting.hadamard(numpy.eye(8)), numpy.kron(numpy.kron(two, two), two), atol=1e-14)


class Results(unittest.TestCase):
    def sample(self):
        return results.header(backends.NumpyBackend(1), 1, 10.0)

    def test_schema_refuses_what_it_does_not_know(self):
        rule = results.schema()
        results.validate(self.sample(), rule)
        for change, message in (
            ({"schema": 2}, "schema is 2, expected 1"),
            ({"surprise": 1}, "surprise"),
            ({"seed": "one"}, "seed is 'one', expected integer"),
            ({"seed": True}, "expected integer"),
            ({"rows": [{}]}, "has no family"),
            ({"software": {"torch": 2}}, "expected string"),
        ):
            with self.assertRaisesRegex(results.SchemaError, message):
                results.validate({**self.sample(), **change}, rule)
        with self.assertRaisesRegex(results.SchemaError, "has no commit"):
            results.validate({name: part for name, part in self.sample().items() if name != "commit"}, rule)

    def test_what_is_written_is_what_was_given(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new" / "results.json"
            sample = self.sample()
            sample["skipped"] = [{"what": "a", "reason": "b"}, {"what": "c", "reason": "d"}]
            results.write(sample, path)
            self.assertEqual(json.loads(path.read_text()), sample)


class Wrong(family.Arm):
    """A peer whose result is not right."""

    name = "wrong"

    def prepare(self, problem):
        return lambda copy: [numpy.zeros(y.shape) for y in problem.copies[copy].y]


# Threads of a BLAS that wait for one another take the processors from everybody else.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@unittest.skipUnless(LIBRARY, "needs PEFT_KERNELS_LIBRARY")
class Emulator(unittest.TestCase):
    def test_refusals_come_with_the_library_s_text(self):
        library = Library(LIBRARY)
        with self.assertRaisesRegex(LibraryError, "pk_lora_forward returned -[0-9]+: .*pk_lora_forward"):
            library.call("pk_lora_forward", None, None)

    def test_views_have_the_strides_of_their_matrix(self):
        backend = backends.NumpyBackend(1)
        whole = backend.random((8, 6), "f32", 1.0)
        part = matrix(backend.matrix(whole.data[2:5, 1:4].T, "f32"))
        self.assertEqual((part.rows, part.columns, part.row_stride, part.column_stride), (3, 3, 1, 6))
        self.assertEqual(part.data - whole.address, 4 * (2 * 6 + 1))

    def test_the_program_runs_from_another_folder_and_its_results_fit(self):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "results.json"
            command = [sys.executable, "-B", str(PEERS), "--backend", "numpy", "--rounds", "3", "--budget", "3600", "--library", os.path.abspath(LIBRARY), "--output", str(output)]
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **ONE_THREAD})
            self.assertEqual(run.returncode, 0, run.stderr)
            written = json.loads(output.read_text())
        results.validate(written, results.schema())
        self.assertEqual(written["skipped"], [])
        families = family.load()
        small = {(entry.operation, entry.name, entry.types) for each in families.values() for entry in each.shapes() if entry.set == "small"}
        by_shape = {}
        for row in written["rows"]:
            by_shape.setdefault((row["operation"], row["shape"], row["types"]), {})[row["arm"]] = row
        self.assertEqual(set(by_shape), small)
        for (operation, _, _), arms in by_shape.items():
            ours = arms.pop(family.OURS)
            self.assertTrue(ours["kernel"].startswith(operation.partition(".")[0]), ours)
            self.assertTrue(ours["error"]["relative"] > 0 or operation == "lora.quantize", ours)
            self.assertIn(family.COPY, arms)
            expected = {"lora": {"numpy, f64"}, "haar": {"PyWavelets", "SciPy", "numpy, f64"}}[operation.partition(".")[0]]
            second = [row for arm, row in arms.items() if arm in expected]
            self.assertEqual(len(second), 1, operation)
            self.assertLess(second[0]["error"]["relative"], 1e-12, second)

    def test_a_wrong_result_is_no_row(self):
        families = family.load()
        lora, entry = families["lora"], next(entry for entry in catalog.shapes("lora") if entry.set == "small")
        options = types.SimpleNamespace(seed=1, budget=10.0, rounds=3, output=None, shapes=None)
        run = runner.Run(options, Library(LIBRARY), backends.NumpyBackend(1))
        ours = next(arm for arm in lora.arms if arm.name == family.OURS)
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            run.shape(lora, entry, [ours, Wrong()], 0.0)
        self.assertEqual([row["arm"] for row in run.results["rows"]], [family.OURS])
        self.assertIn("its error is 1.0 of the largest value", run.results["skipped"][0]["reason"])
        self.assertEqual(run.failed, 0)


if __name__ == "__main__":
    unittest.main()

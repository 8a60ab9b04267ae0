"""Makes abi.py from the C header: `python3 benches/peers/make_abi.py [--check]`.

The header keeps to a small part of C: structs of scalars, arrays, pointers and other structs, numeric macros, and functions marked PK_API. What this does not understand is an error.
"""

import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
HEADER = FOLDER.parents[1] / "cuda" / "include" / "peft_kernels.h"
SCALARS = {"int32_t": "c_int32", "uint32_t": "c_uint32", "int64_t": "c_int64", "uint64_t": "c_uint64", "float": "c_float", "double": "c_double", "char": "c_char"}


def type_name(words, stars, structs):
    """The ctypes type of a declaration, as an expression. Pointers to scalars are addresses, as `void *` is."""
    base = [word for word in words if word not in ("const", "struct")]
    if len(base) != 1:
        raise SystemExit(f"not understood: {' '.join(words)}")
    base = base[0]
    if stars == 1 and base in structs:
        return f"ctypes.POINTER({base})"
    if stars == 1 and base == "char":
        return "ctypes.c_char_p"
    if stars:
        return "ctypes.c_void_p"
    if base == "void":
        return "None"
    return base if base in structs else f"ctypes.{SCALARS[base]}"


def fields(body, structs):
    for declaration in filter(None, (part.strip() for part in body.split(";"))):
        match = re.fullmatch(r"((?:\w+\s+)+?)(\**\s*\w+(?:\[\w+\])?(?:\s*,\s*\**\s*\w+(?:\[\w+\])?)*)", declaration.replace("* ", "*"))
        if not match:
            raise SystemExit(f"not understood: {declaration}")
        for name in match[2].split(","):
            part = re.fullmatch(r"\s*(\**)\s*(\w+)(?:\[(\w+)\])?", name)
            kind = type_name(match[1].split(), len(part[1]), structs)
            yield part[2], f"{kind} * {part[3]}" if part[3] else kind


def generate():
    text = re.sub(r"/\*.*?\*/", " ", HEADER.read_text(), flags=re.S)
    lines = ['"""The C interface for ctypes. Made from cuda/include/peft_kernels.h by make_abi.py: do not edit."""', "", "import ctypes", ""]
    for name, value in re.findall(r"^#define (PK_[A-Z0-9_]+) \(?(-?\d+)u?\)?\s*$", text, flags=re.M):
        lines.append(f"{name} = {value}")
    structs = set()
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \1;", text, flags=re.S):
        members = list(fields(body, structs))
        structs.add(name)
        lines += ["", "", f"class {name}(ctypes.Structure):", "    _fields_ = ["]
        lines += [f'        ("{member}", {kind}),' for member, kind in members] + ["    ]"]
    lines += ["", "", "# Result and arguments of each function.", "FUNCTIONS = {"]
    for result, name, arguments in re.findall(r"^PK_API (\w+) (\w+)\((.*?)\);", text, flags=re.M | re.S):
        kinds = []
        for argument in arguments.split(","):
            match = re.fullmatch(r"\s*((?:\w+\s+)*?\w+)\s*(\**)\s*(\w*)\s*", argument)
            words = match[1].split()
            if words == ["void"] and not match[2]:
                continue
            kinds.append(type_name(words if match[3] or match[2] else words[:-1], len(match[2]), structs))
        lines.append(f'    "{name}": (ctypes.{SCALARS[result]}, [{", ".join(kinds)}]),')
    return "\n".join(lines) + "\n}\n"


def main():
    path = FOLDER / "abi.py"
    if "--check" not in sys.argv[1:]:
        path.write_text(generate())
    elif path.read_text() != generate():
        raise SystemExit(f"{path} is not what the header gives: run python3 benches/peers/make_abi.py")


if __name__ == "__main__":
    main()

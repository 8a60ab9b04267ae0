"""What is measured, and against what: benches/shapes.json and benches/devices.json, which the Rust benches read too."""

import json
from dataclasses import dataclass
from pathlib import Path

BENCHES = Path(__file__).resolve().parents[1]


def read(name):
    content = json.loads((BENCHES / name).read_text())
    if content["version"] != 1:
        raise ValueError(f"benches/{name}: version {content['version']}, expected 1")
    return content


@dataclass(frozen=True)
class Entry:
    """A shape in one combination of element types: of x or the weights, and of the adapters."""

    name: str
    operation: str
    set: str
    types: str
    extents: dict

    @property
    def element_types(self):
        x, _, adapters = self.types.partition("+")
        return x, adapters or x


def shapes(family):
    """The most important first: every shape in its first types, then in its second ones."""
    listed = read("shapes.json")["families"][family]
    return [
        Entry(shape["name"], shape["operation"], shape["set"], shape["types"][i], shape["extents"])
        for i in range(max(len(shape["types"]) for shape in listed))
        for shape in listed
        if i < len(shape["types"])
    ]


def peaks(device_name):
    """What the list says of the device that the driver calls so, or None."""
    return next((device for device in read("devices.json")["devices"] if device_name in device["names"]), None)


def rate(device, element_type):
    """Operations a second, and the unit that does them. f32 is exact: on its own units, or as three products of tf32."""
    rates = device["rates"]
    if element_type == "f32" and rates["tf32"] / 3 > rates["f32"]:
        return rates["tf32"] / 3, "tf32/3"
    return rates[element_type], element_type


def floor(device, nbytes, flops, element_type):
    """The least time for so many bytes and operations, as a row's `floor`."""
    if device is None:
        return None
    per_second, unit = rate(device, element_type)
    moving, computing = nbytes / device["bandwidth"] * 1e9, flops / per_second * 1e9
    return {"ns": max(moving, computing), "bound": unit if computing > moving else "bandwidth"}

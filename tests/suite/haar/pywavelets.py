#!/usr/bin/env python3
"""Writes pywavelets.txt: Haar coefficients as PyWavelets makes them, of small integers. Needs numpy and PyWavelets (1.9 made the committed file).

A line is: axes (2d, rows, columns); boundary; levels; rows and columns of the signal; its elements; rows and columns of the coefficients; these.
"""
import sys

import numpy
import pywt

MODES = {"zero": "zero", "edge": "constant", "symmetric": "symmetric", "periodic": "periodic"}
SHAPES = [(2, 2, 1), (4, 8, 2), (3, 5, 1), (5, 7, 2), (9, 11, 3), (8, 13, 2)]


def coefficients(signal, axes, mode, levels):
    if axes == "2d":
        return pywt.coeffs_to_array(pywt.wavedec2(signal, "haar", mode=mode, level=levels))[0]
    axis = 0 if axes == "rows" else 1
    return numpy.concatenate(pywt.wavedec(signal, "haar", mode=mode, level=levels, axis=axis), axis=axis)


def main():
    random = numpy.random.default_rng(6)
    with open(sys.argv[1], "w") as file:
        for axes in ("2d", "rows", "columns"):
            for rows, columns, levels in SHAPES:
                for boundary, mode in MODES.items():
                    if boundary != "zero" and rows % 2**levels == 0 and columns % 2**levels == 0:
                        continue
                    signal = random.integers(-9, 10, (rows, columns)).astype(float)
                    result = coefficients(signal, axes, mode, levels)
                    elements = " ".join(str(int(value)) for value in signal.flat)
                    values = " ".join(repr(float(value)) for value in result.flat)
                    file.write(f"{axes} {boundary} {levels}; {rows} {columns}; {elements}; {result.shape[0]} {result.shape[1]}; {values}\n")


main()

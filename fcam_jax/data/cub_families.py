"""Families and orders of the 200 species of CUB-200-2011, in the order of the data set's classes.

Source: the labels of the authors' program of DANet (Xue et al., ICCV 2019).
"""

# "3x5" is five classes in a row of family 3.
_FAMILIES = """
0x3 1 2x4 3x5 4x4 5 6 7 8 9 10x3 3x2 11 12x2 1x3 13x2 14 15x7 16 17 18 13x2 3 19x4 4 13x2 4 2 20x8 21x4 22x2 12x3 8 15x2
23x5 20 24 25 18 3 18x2 6 9 12 26 3x4 27 28x2 15x2 29 9 2 12x2 27 1 30x2 8x5 31 8x11 31 8x3 32 33x4 4x2 20x7 8 6x2 34x7
27x27 35x2 14x6 36x7 27
"""
# Of every family.
_ORDERS = "0 1 2 3x6 4 5 3x3 5 3 5 0 6 7 2 8 2 8 3 9 3x2 10 3x8"


def _numbers(text: str) -> tuple[int, ...]:
    parts = (part.partition("x") for part in text.split())
    return tuple(int(number) for number, _, count in parts for _ in range(int(count or 1)))


CUB_FAMILIES = _numbers(_FAMILIES)  # 37, numbered by their first species
CUB_ORDERS = tuple(_numbers(_ORDERS)[family] for family in CUB_FAMILIES)  # 11

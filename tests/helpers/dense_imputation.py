"""Linear imputation by a dense solve, for comparison."""

import numpy as np


def dense(image, kept):
    """An image filled in by a dense solve, an equation for each pixel."""
    height, width, channels = image.shape
    matrix, side = np.eye(height * width), image.reshape(-1, channels).astype(np.float64)
    for y in range(height):
        for x in range(width):
            if kept[y, x]:
                continue
            row = np.zeros((height, width))
            for dy, dx in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]:
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    row[y + dy, x + dx] = -1 / 12 if dy and dx else -1 / 6
            row[y, x] = -row.sum()
            matrix[y * width + x], side[y * width + x] = row.ravel(), 0
    return np.linalg.solve(matrix, side).reshape(image.shape)

"""What is known of a prepared split without its records; it is stored beside them, as JSON."""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Identity:
    """The attributes of a `Source` of these names."""

    fingerprint: str
    class_names: tuple[str, ...] | None
    localized: bool
    left_out: tuple[str, ...]

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Identity":
        """What `dataclasses.asdict` and JSON have made of one: JSON has no tuples."""
        names = stored["class_names"]
        class_names = None if names is None else tuple(names)
        return cls(stored["fingerprint"], class_names, stored["localized"], tuple(stored["left_out"]))

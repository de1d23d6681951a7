"""Names of classes out of a run's folder."""

import pytest

from fcam_jax.errors import InputError
from fcam_jax.runs.class_names import CLASS_NAMES, names_of_run


def test_a_run_has_written_down_its_classes_or_they_have_no_names(tmp_path):
    assert names_of_run(tmp_path, 3) == [None] * 3
    (tmp_path / CLASS_NAMES).write_text("cat\n\nGr\u00fcnfink\n", encoding="utf-8")
    assert names_of_run(tmp_path, 3) == ["cat", None, "Gr\u00fcnfink"]
    with pytest.raises(InputError, match="has 3 lines, the network 4 classes"):
        names_of_run(tmp_path, 4)

"""Names of classes out of a data set's folders."""

import shutil

from fcam_jax.prediction.class_names import names_from_data


def test_folders_of_validation_images_name_the_classes_where_they_are_of_one_mind(bird_folder):
    data = {"source": "folder", "root": str(bird_folder), "num_classes": 4}
    assert names_from_data(data) == ["class0", "class1", "class2", None]
    ids = bird_folder / "metadata" / "val" / "image_ids.txt"
    for path in ids.parent.iterdir():  # another folder for one of the two images of class 0
        path.write_text(path.read_text().replace("class0/val0.jpg", "odd/val0.jpg"))
    assert names_from_data(data) == [None, "class1", "class2", None]
    shutil.rmtree(bird_folder)
    assert names_from_data(data) == [None] * 4
    assert names_from_data({**data, "source": "synthetic"}) == [None] * 4

"""What the key of an image says by itself."""

import pytest

from services.storage.names import KeyFacts, facts_of, image_stem
from tests.history.shelf import milliseconds

FOLDER = "0123456789abcdef"
MIDNIGHT = milliseconds("2025-01-02T00:00:00+00:00")


def test_a_key_that_we_give_is_read_again() -> None:
    made_at = milliseconds("2026-11-25T10:11:12+00:00")
    stem = image_stem(
        folder_id=FOLDER, mode="basic", prompt="A cat, on_a mat", image_id="img_1", made_at=made_at + 345, listed=True
    )
    assert facts_of(f"{stem}.png") == KeyFacts(FOLDER, made_at, "basic", "A_cat__on_a_mat")


def test_a_key_of_the_old_app_has_no_digits_at_its_end_and_letters_of_any_script() -> None:
    made_at = milliseconds("2025-01-02T10:11:12+00:00")
    for name, slug in (("chat_101112_a_red_cat.png", "a_red_cat"), ("chat_101112_可爱的猫.png", "可爱的猫")):
        assert facts_of(f"users/{FOLDER}/2025/01/02/{name}") == KeyFacts(FOLDER, made_at, "chat", slug)


@pytest.mark.parametrize(
    "name", ["picture.png", "basic_101112.jpg", "basic_991112_cat_a1b2c3.png", "basic_10111_cat_a1b2c.webp"]
)
def test_of_another_name_the_folder_and_the_day_are_known(name: str) -> None:
    assert facts_of(f"users/{FOLDER}/2025/01/02/{name}") == KeyFacts(FOLDER, MIDNIGHT, None, None)


@pytest.mark.parametrize(
    "key",
    ["2025/01/02/basic_101112_cat_a1b2c3.png", "unlisted/2025-01-02/basic_101112_cat_a1b2c3.png",
     f"users/{FOLDER}/picture.png", f"users/{FOLDER}/2025/13/02/basic_101112_cat_a1b2c3.png",
     f"users/{FOLDER}/2025/01/02/deeper/picture.png", f"users/{FOLDER}/2025/01/02/none", "users//2025/01/02/a.png"],
)  # fmt: skip
def test_a_key_outside_of_somebodys_day_says_nothing(key: str) -> None:
    assert facts_of(key) is None

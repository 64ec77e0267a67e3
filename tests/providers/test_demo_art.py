"""The demo painter: the same picture for the same wish, the asked size, and a mark that can be seen."""

import hashlib
import subprocess
import sys
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from services.providers.demo.art import draw

ROOT = Path(__file__).resolve().parents[2]
SMALL = {"width": 256, "height": 256}

_DIGEST_OF_A_PICTURE = """
import hashlib
from services.providers.demo.art import draw
print(hashlib.sha256(draw("a cat in the snow, 夜", seed=7, width=320, height=180)).hexdigest())
"""


def _open(png: bytes) -> Image.Image:
    image = Image.open(BytesIO(png))
    assert image.format == "PNG"
    image.load()
    return image


def _digest_in_a_process(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _DIGEST_OF_A_PICTURE],
        cwd=ROOT,
        env={"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def test_the_same_arguments_give_the_same_bytes_in_every_process() -> None:
    here = hashlib.sha256(draw("a cat in the snow, 夜", seed=7, width=320, height=180)).hexdigest()
    assert {_digest_in_a_process("1"), _digest_in_a_process("2")} == {here}


def test_prompts_and_seeds_each_give_their_own_picture() -> None:
    prompts = ["", "x", "sunset", "夕阳", "a red cat", "a blue cat"]
    pictures = {draw(prompt, seed=seed, **SMALL) for prompt in prompts for seed in (0, 1, -5)}
    assert len(pictures) == len(prompts) * 3


@pytest.mark.parametrize(
    ("width", "height"),
    [(1376, 768), (768, 1376), (1024, 1024), (1584, 672), (256, 256), (300, 2400), (2400, 300), (64, 64), (1, 1)],
)
def test_the_picture_has_exactly_the_asked_size(width: int, height: int) -> None:
    image = _open(draw("mountains and a lake", seed=1, width=width, height=height))
    assert (image.size, image.mode) == ((width, height), "RGB")


def test_a_size_beyond_the_drawing_resolution_is_exact_too() -> None:
    assert _open(draw("sea", seed=1, width=3071, height=1729)).size == (3071, 1729)


MARK_LINE = (0, 984, 300, 1024)  # inside the label of a 1024 x 1024 picture without a caption


@pytest.mark.parametrize("prompt", ["雪 白天", "黑夜", "夕阳 海"])
def test_the_mark_stands_out_on_bright_and_dark_pictures(prompt: str) -> None:
    """White letters on a dark band: both must be there, whatever lies beneath."""
    band = _open(draw(prompt, seed=3, width=1024, height=1024)).crop(MARK_LINE).convert("L").histogram()
    total = sum(band)
    assert sum(band[:130]) > 0.6 * total
    assert sum(band[200:]) > 0.04 * total


def test_the_mark_reads_the_same_on_two_different_pictures() -> None:
    """Nothing else of a night and a desert coincides, so bright pixels in the same places are the label's letters."""
    night, desert = (
        _open(draw(prompt, seed=3, width=1024, height=1024)).crop(MARK_LINE).convert("L").tobytes()
        for prompt in ("黑夜", "白天 沙漠")
    )
    letters = {at for at, level in enumerate(night) if level > 225}
    also = {at for at, level in enumerate(desert) if level > 225}
    assert len(letters) > 300
    assert len(letters & also) > 0.9 * len(letters | also)


def _band_height(prompt: str) -> int:
    """Distance from the lower edge to the strongest step of brightness near the left edge, in pixels."""
    column = _open(draw(prompt, seed=3, width=1024, height=1024)).convert("L").crop((4, 900, 5, 1024)).tobytes()[::-1]
    steps = [abs(below - above) for below, above in pairwise(column)]
    return steps.index(max(steps)) + 1


def test_the_prompt_is_written_only_where_the_font_has_its_letters() -> None:
    """A caption makes the band higher; a prompt with letters that the font lacks gets none."""
    assert _band_height("abstract pattern") > 1.4 * _band_height("abstract 抽象") > 40
    assert _band_height("abstract 🍌") == _band_height("abstract 抽象")


@pytest.mark.parametrize(
    "prompt",
    [
        pytest.param("", id="empty"),
        pytest.param("   \n\t", id="blank"),
        pytest.param("🍌🎉👩‍🚀", id="emoji"),
        pytest.param("一只猫坐在月亮上，赛博朋克风格", id="chinese"),
        pytest.param("émigré Ñandú", id="accents"),
        pytest.param("\ud800 lone surrogate", id="surrogate"),
        pytest.param("\x00\x1b[0m", id="control"),
        pytest.param("word " * 800, id="long"),
        pytest.param("长" * 4000, id="long-chinese"),
    ],
)
def test_odd_prompts_are_drawn(prompt: str) -> None:
    assert _open(draw(prompt, seed=2**63, width=320, height=192)).size == (320, 192)


SUBJECTS = "cat dog banana coffee portrait robot boat balloon house rocket fish tree flower"
PLACES = "sea lake beach mountain forest city desert meadow space"
MOODS = "snow rain fog aurora abstract autumn spring star bird cloud"


@pytest.mark.parametrize("word", f"{SUBJECTS} {PLACES} {MOODS}".split())
def test_every_scene_can_be_drawn_by_day_and_by_night(word: str) -> None:
    pictures = {draw(f"{word}{time}", seed=1, width=96, height=64) for time in ("", " at night", " at noon")}
    assert len(pictures) == 3


def _mean(prompt: str) -> tuple[float, float, float]:
    """Mean colour of the upper half over a few seeds."""
    sums = [0.0, 0.0, 0.0]
    for seed in range(4):
        pixel = _open(draw(prompt, seed=seed, **SMALL)).crop((0, 0, 256, 128)).resize((1, 1), Image.Resampling.BOX)
        for channel, value in enumerate(pixel.tobytes()):
            sums[channel] += value / 4
    return sums[0], sums[1], sums[2]


@pytest.mark.parametrize(("english", "chinese"), [("night", "夜晚"), ("midnight", "深夜")])
def test_night_is_darker_than_day_in_both_languages(english: str, chinese: str) -> None:
    day = sum(_mean("mountain noon"))
    assert sum(_mean(f"mountain {english}")) < 0.6 * day
    assert sum(_mean(f"山 {chinese}")) < 0.6 * day


def test_colour_words_tint_the_picture() -> None:
    red, blue = _mean("红色的山 白天"), _mean("blue mountain noon")
    assert red[0] > red[2] + 20
    assert blue[2] > blue[0] + 20


def test_a_word_inside_another_is_not_read() -> None:
    """A "nightingale" is no night: only whole English words count."""
    assert sum(_mean("noon nightingale")) > 1.5 * sum(_mean("night"))

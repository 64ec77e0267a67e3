"""What the demo painter understands of a prompt, and the colours that follow from it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from services.providers.demo.canvas import Colour, mix

_TIMES = {
    "night": "night midnight moonlit 夜 夜晚 深夜 午夜",
    "sunset": "sunset dusk twilight evening 夕阳 夕陽 日落 黄昏 黃昏 傍晚 晚霞 落日 余晖",
    "dawn": "dawn sunrise morning daybreak 日出 清晨 早晨 黎明 朝阳 朝陽 晨曦 早上",
    "day": "day daylight sunny noon sunshine sun summer 白天 晴 阳光 陽光 太阳 太陽 夏 正午 蓝天",
}
_PLACES = {
    "beach": "beach coast seaside shore 沙滩 沙灘 海滩 海灘 海边 海邊",
    "sea": "sea ocean wave bay island surf 海 浪 岛 島",
    "lake": "lake river pond water 湖 河 江 池塘 水面",
    "mountain": "mountain peak alps cliff volcano 山 峰 峡谷",
    "forest": "forest wood jungle pine 森林 树林 樹林 林 丛林 竹",
    "city": "city skyline street skyscraper tokyo york paris shanghai london neon cyberpunk urban town building"
    " 城 上海 北京 东京 東京 香港 街 高楼 楼 赛博朋克 霓虹 建筑",
    "desert": "desert dune sahara sand cactus 沙漠 沙丘 戈壁 大漠",
    "meadow": "meadow field grass garden park hill countryside prairie landscape 花海 草 田 花园 花園 原野 公园 乡村"
    " 丘 风景 風景",
    "space": "space galaxy planet universe cosmos cosmic nebula astronaut mars 宇宙 太空 星球 银河 銀河 行星 星系"
    " 宇航员 火星",
}
_MOODS = {
    "moon": "moon moonlight 月亮 月光 明月 月",
    "star": "star starry 星空 星",
    "snow": "snow snowy winter ice frozen christmas 雪 冬 冰 圣诞",
    "rain": "rain rainy storm 雨 暴风",
    "fog": "fog mist misty foggy 雾 霧",
    "cloud": "cloud cloudy 云 雲",
    "bird": "bird gull crane swallow 鸟 鳥 鹤 燕",
    "flower": "flower rose tulip sunflower daisy blossom lavender bloom 花 玫瑰 郁金香 向日葵 樱花 櫻花 荷",
    "autumn": "autumn fall maple 秋 枫 楓",
    "spring": "spring sakura cherry 春 樱 櫻",
    "aurora": "aurora 极光 極光",
    "abstract": "abstract pattern wallpaper texture gradient geometric 抽象 图案 壁纸 纹理 几何",
}
_SUBJECTS = {
    "cat": "cat kitten kitty 猫 貓",
    "dog": "dog puppy corgi husky 狗 犬",
    "banana": "banana 香蕉",
    "coffee": "coffee latte espresso cappuccino tea cup mug 咖啡 茶 杯 拿铁",
    "portrait": "portrait woman man girl boy face person people lady child selfie avatar"
    " 肖像 人像 女孩 男孩 女人 男人 人物 头像 少女 少年 自拍 老人",
    "robot": "robot android cyborg 机器人 機器人",
    "boat": "boat ship sail sailboat yacht 船 帆",
    "balloon": "balloon 气球 氣球",
    "house": "house home cottage cabin hut village 房 屋 村 小镇",
    "rocket": "rocket spaceship 火箭 飞船 飛船",
    "fish": "fish goldfish koi whale shark 鱼 魚 鲸 锦鲤",
    "tree": "tree oak 树 樹",
}
_COLOURS = {
    "red": ("red crimson scarlet ruby 红 紅 赤", (214, 54, 57)),
    "orange": ("orange amber 橙 橘", (240, 130, 45)),
    "yellow": ("yellow gold golden lemon 黄 黃 金色 金黄", (246, 196, 60)),
    "green": ("green emerald olive mint 绿 綠 翠", (58, 150, 92)),
    "teal": ("teal cyan turquoise 青", (38, 160, 165)),
    "blue": ("blue navy azure sapphire indigo 蓝 藍", (48, 104, 204)),
    "purple": ("purple violet lilac magenta 紫", (130, 78, 190)),
    "pink": ("pink 粉", (240, 130, 165)),
    "white": ("white ivory 白", (240, 240, 238)),
    "black": ("black dark noir 黑", (44, 44, 56)),
    "grey": ("grey gray silver 灰 银色", (142, 148, 160)),
    "brown": ("brown chocolate 棕 褐", (138, 90, 58)),
}


def _vocabulary() -> dict[str, str]:
    groups = [_TIMES, _PLACES, _MOODS, _SUBJECTS, {name: words for name, (words, _) in _COLOURS.items()}]
    return {word: concept for group in groups for concept, words in group.items() for word in words.split()}


_VOCABULARY = _vocabulary()
# Longest first, so that 黄昏 (dusk) is not read as yellow; letters around an English word make it another word.
_WORDS = re.compile(
    "|".join(
        rf"(?<![a-z]){word}(?=(?:s|es)?(?![a-z]))" if word.isascii() else word
        for word in sorted(_VOCABULARY, key=len, reverse=True)
    )
)


@dataclass(frozen=True)
class Reading:
    """What the vocabulary found. Times, places and subjects keep the order of the prompt."""

    times: tuple[str, ...]
    places: tuple[str, ...]
    moods: frozenset[str]
    subjects: tuple[str, ...]
    colours: tuple[Colour, ...]


def read_prompt(prompt: str) -> Reading:
    """Find the known English and Chinese words of a prompt; unknown prompts give an empty reading."""
    found = dict.fromkeys(_VOCABULARY[match.group()] for match in _WORDS.finditer(prompt.lower()))
    return Reading(
        times=tuple(name for name in found if name in _TIMES),
        places=tuple(name for name in found if name in _PLACES),
        moods=frozenset(name for name in found if name in _MOODS),
        subjects=tuple(name for name in found if name in _SUBJECTS),
        colours=tuple(_COLOURS[name][1] for name in found if name in _COLOURS),
    )


def refined(before: Reading, after: Reading) -> Reading:
    """What is meant when one thing is said and then another: what is named anew changes, all else stays."""
    added = [name for name in after.subjects if name not in before.subjects]
    return Reading(
        times=after.times or before.times,
        places=after.places or before.places,
        moods=before.moods | after.moods,
        # Two have room in a picture: the first that was ever named, and the last.
        subjects=(*before.subjects[:1], *added[-1:]) if added else before.subjects,
        colours=after.colours or before.colours,
    )


@dataclass(frozen=True)
class Palette:
    """Colours of one picture: sky from top to horizon, the light and its glow, land from far to near, accents."""

    sky: tuple[Colour, ...]
    light: Colour
    glow: Colour
    far: Colour
    near: Colour
    accents: tuple[Colour, ...]

    def land(self, depth: float) -> Colour:
        """Land colour at a depth from 0 (the horizon) to 1 (the viewer)."""
        return mix(self.far, self.near, depth)


def _hex(text: str) -> tuple[Colour, ...]:
    values = [bytes.fromhex(code) for code in text.split()]
    return tuple((value[0], value[1], value[2]) for value in values)


def _palette(sky: str, light_glow_far_near: str, accents: str) -> Palette:
    light, glow, far, near = _hex(light_glow_far_near)
    return Palette(_hex(sky), light, glow, far, near, _hex(accents))


_BY_TIME = {
    "sunset": (
        _palette("2b2a63 7b3f86 e0607e ff9a6b ffd59a", "fff3cf ffb066 c0638a 2a1a48", "ff7a59 ffd166 f25f8b"),
        _palette("1d4e6b 4b8a95 f0b98a f78f5a ffcf8a", "fff0d0 ff9d5c 7a7f8f 18303f", "f9844a f9c74f 43aa8b"),
        _palette("4a2545 943a5a e8604c ffa552 ffe0a0", "fff6df ffc06b a8485f 32142f", "ff595e ffca3a ff924c"),
    ),
    "day": (
        _palette("3f94d8 7fc3ee bfe4f5 eaf6f2", "fff9e0 fff2c0 9cc3cf 2d6f5b", "ff6b6b ffd93d ff9f68"),
        _palette("54b6c4 95d8d2 d4f0e0 fbf6df", "fffbe6 fff0b8 a6d3bf 2f7d6a", "ef767a ffe066 7d70ba"),
        _palette("5a8fd0 9dbde8 d6def5 fdeee2", "fff6dd ffe9c4 a9b4d6 3c5a7d", "f7a072 fed766 e4572e"),
    ),
    "dawn": (
        _palette("5b74b5 a79ccb eeb6c0 fcd9c2 fff0da", "fff8e6 ffdcb0 b7a3c6 3b4a72", "f28482 f6bd60 84a59d"),
        _palette("6fa3b8 b9c9cf f6d6c4 ffe6c9", "fffaf0 ffd9a8 b4bcc4 40626b", "e5989b ffb4a2 6d9f9c"),
        _palette("7867a8 b689bd f2a3b3 ffc9ad ffe9c8", "fff4dc ffc1a0 a98bb8 4a3a6b", "ffafcc ffc8a2 a2d2ff"),
    ),
    "night": (
        _palette("070b26 111b4e 2a3a80 5a66a8", "fdf6dc 93a4ff 35437f 080d28", "ffd166 9bf6ff ff99c8"),
        _palette("0b1326 12324a 1f5b6b 4f9a97", "f4fbe8 7fe0d0 1f5566 06151f", "f4d35e 95e0d0 ee964b"),
        _palette("150b2e 351a5c 683a8c b070ae", "fff0e4 d9a0ff 53347f 12082a", "ff9de2 ffd6a5 8ec5ff"),
    ),
}
_GROUNDS = {  # in white light: far away, and close by
    "forest": ((132, 184, 160), (18, 68, 60)),
    "meadow": ((178, 212, 146), (44, 124, 82)),
    "desert": ((248, 204, 142), (188, 98, 58)),
    "autumn": ((246, 186, 112), (156, 62, 38)),
    "spring": ((250, 206, 214), (104, 164, 112)),
    "snow": ((206, 222, 244), (248, 251, 255)),
}
_DAYLIGHT: dict[str, Colour] = {
    "day": (255, 255, 255),
    "dawn": (250, 222, 226),
    "sunset": (232, 150, 142),
    "night": (62, 74, 128),
}
_WEATHER: dict[str, tuple[Colour, float]] = {"rain": ((92, 114, 148), 0.6), "fog": ((170, 186, 204), 0.3)}
_STUDIO = (
    _palette("f6e3d3 fbf0e4", "fffaf2 fff4e0 e9846b 8a4a45", "2f6f73 f2b84b e4572e"),
    _palette("cfe5e1 eaf4ee", "fffdf4 ffffff 3f8f8c 235b63", "f28f6b f7cf6b e85d75"),
    _palette("f7d6dc fdeef0", "fff9f4 ffffff d9708f 7c3b5e", "5d8aa8 f6c667 8e5ea2"),
    _palette("d9dcf5 f0effb", "fffdf8 ffffff 6f74c9 3b3f7f", "ff8a7a ffd27a 4fb0a5"),
    _palette("e4ecd2 f6f7e8", "fffef4 ffffff 7da36a 42663f", "e07a5f f2cc8f 3d5a80"),
    _palette("2a2f4f 454a78", "fff3d6 8f95ff 7f6fd6 191c36", "ffb4a2 ffd166 7fd8d0"),
)


def _tinted(colour: Colour, tint: Colour, share: float) -> Colour:
    """Towards `tint` in hue while the lightness stays: dark parts stay dark, highlights stay light."""
    level = (colour[0] * 299 + colour[1] * 587 + colour[2] * 114) / 255_000
    middle = (tint[0] * 299 + tint[1] * 587 + tint[2] * 114) / 255_000
    middle = min(max(middle, 0.15), 0.85)
    if level < middle:
        target = mix((10, 8, 20), tint, level / middle)
    else:
        target = mix(tint, (255, 252, 246), (level - middle) / (1 - middle))
    return mix(colour, target, share)


def _tint(palette: Palette, tints: Sequence[Colour], share: float) -> Palette:
    if not tints:
        return palette
    sky, land = tints[0], tints[min(1, len(tints) - 1)]
    return replace(
        palette,
        sky=tuple(_tinted(colour, sky, share) for colour in palette.sky),
        glow=_tinted(palette.glow, sky, share * 0.7),
        far=_tinted(palette.far, land, share),
        near=_tinted(palette.near, land, share),
        accents=(mix(palette.accents[0], land, share), *palette.accents[1:]),
    )


def _lit(colour: Colour, light: Colour) -> Colour:
    return colour[0] * light[0] // 255, colour[1] * light[1] // 255, colour[2] * light[2] // 255


def outdoor_palette(reading: Reading, time: str, rng: Random) -> Palette:
    """Colours of a landscape at a time of day (a key of the times)."""
    palette = rng.choice(_BY_TIME[time])
    for ground in (*reading.places, *sorted(reading.moods)):
        if ground in _GROUNDS:
            far, near = (_lit(colour, _DAYLIGHT[time]) for colour in _GROUNDS[ground])
            palette = replace(palette, far=mix(palette.far, far, 0.75), near=mix(palette.near, near, 0.85))
    for weather, (grey, share) in _WEATHER.items():
        if weather in reading.moods:
            palette = _tint(palette, (_lit(grey, mix(_DAYLIGHT[time], (255, 255, 255), 0.5)),), share)
    # With a subject the colour belongs to it ("a red balloon"), and the scene only answers it.
    return _tint(palette, reading.colours, 0.2 if reading.subjects else 0.6)


def studio_palette(reading: Reading, rng: Random) -> Palette:
    """Colours of a still life: wall as sky, `far` for the disc behind the subject, `near` for ink."""
    return _tint(rng.choice(_STUDIO), reading.colours[1:], 0.6)

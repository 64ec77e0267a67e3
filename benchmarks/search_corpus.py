"""Prompts for the benchmark of the search: what people write, in English and Chinese, with a tail of rare words."""

import random
from collections.abc import Iterator
from itertools import accumulate


def _words(text: str) -> list[str]:
    return text.split(",")


_SUBJECTS = _words(
    "cat,dog,fox,woman,man,child,robot,dragon,castle,forest,city,mountain,river,garden,street,temple,"
    "ship,train,bird,horse,whale,astronaut,knight,dancer,musician,chef,samurai,wizard,lighthouse,bridge,"
    "market,library,cottage,island,desert,waterfall,owl,tiger,panda,rabbit,butterfly,flower,tree,teapot,"
    "bicycle,motorcycle,car,airship,clockwork,mask,crown,lantern,umbrella,piano,violin,bookshop,bakery,"
    "harbor,village,cathedral,greenhouse,subway,rooftop"
)
_QUALITIES = _words(
    "cute,old,young,red,blue,golden,silver,dark,bright,misty,ancient,futuristic,tiny,giant,lonely,happy,"
    "sleepy,wild,elegant,broken,glowing,frozen,burning,wooden,crystal,mechanical,floating,abandoned,"
    "colorful,minimalist,dreamy,weathered,translucent,ornate,rustic,neon,pastel,mysterious,peaceful,"
    "stormy,velvet,porcelain,bronze,emerald"
)
_PLACES = _words(
    "in the snow,under the moon,at sunset,at dawn,in the rain,by the sea,on a hill,in a dream,"
    "among the clouds,in a narrow alley,on the moon,behind a window,under a cherry tree,"
    "in an old library,at the edge of the world,on a wooden table,in front of a mirror,through the fog,"
    "over the rooftops,beside a quiet lake,inside a glass dome"
)
_STYLES = _words(
    "watercolor,oil painting,photorealistic,cinematic lighting,studio ghibli style,pixel art,isometric,"
    "low poly,highly detailed,soft light,golden hour,35mm film,macro photograph,ukiyo-e,art nouveau,"
    "line drawing,8k,volumetric light,shallow depth of field,concept art,vector illustration,"
    "pencil sketch,long exposure,bokeh,trending on artstation,sharp focus,high contrast,muted colors,"
    "wide angle,top view,matte painting,HDR"
)
_HAN_SUBJECTS = _words(
    "小猫,小狗,少女,老人,机器人,龙,城堡,森林,城市,雪山,河流,花园,街道,古寺,帆船,火车,飞鸟,骏马,鲸鱼,"
    "宇航员,武士,舞者,琴师,厨师,灯塔,石桥,夜市,书店,村庄,孤岛,沙漠,瀑布,猫头鹰,老虎,熊猫,白兔,蝴蝶,牡丹,"
    "樱花树,茶壶,自行车,灯笼,油纸伞,钢琴,月亮,星空,荷塘,竹林,稻田,亭台楼阁"
)
_HAN_QUALITIES = _words(
    "可爱的,古老的,年轻的,红色的,蓝色的,金色的,银色的,昏暗的,明亮的,薄雾中的,未来感的,微小的,巨大的,"
    "孤独的,快乐的,发光的,冰封的,燃烧的,木质的,水晶般的,漂浮的,废弃的,五彩缤纷的,极简的,梦幻的,神秘的,"
    "宁静的,暴风雨中的,晶莹剔透的"
)
_HAN_PLACES = _words(
    "在雪地里,在月光下,夕阳西下,黎明时分,雨中,海边,山顶上,云端,小巷深处,窗前,樱花树下,旧书房里,世界尽头,"
    "湖畔,屋顶上,竹林深处,江南水乡,大漠孤烟"
)
_HAN_STYLES = _words(
    "水彩画,油画,写实风格,电影感光影,吉卜力风格,像素艺术,等距视角,高细节,柔和光线,黄金时刻,胶片质感,"
    "微距摄影,浮世绘,工笔画,线稿,8K,体积光,浅景深,概念设计,水墨风格,国潮插画,长曝光,高对比度,低饱和度,"
    "广角,俯视,超高清"
)
_EMOJI = _words("🌸,🐱,🔥,🌙,✨,🏯,🌊,🦊,👩‍🚀,🇨🇳,❄️,🎨")
_ONSETS = _words("b,c,d,f,g,h,j,k,l,m,n,p,r,s,t,v,w,z,br,cr,dr,fl,gl,kr,pl,qu,sh,st,th,tr")
_VOWELS = _words("a,e,i,o,u,ae,ia,io,ou,y")
_CODAS = ["", "", "n", "r", "s", "l", "th", "x", "ck", "m"]
_SURNAMES = (
    "李王张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟"
)
_GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰建国红云飞鹏宇浩然子涵梓轩雨欣思远晨曦若溪一诺嘉怡"


def prompts(count: int, seed: int) -> Iterator[str]:
    """The same ones for the same seed: 45 % English, 45 % Chinese, 10 % of both; 20 to 250 characters."""
    chance = random.Random(seed)
    for number in range(count):
        kind = chance.random()
        if kind < 0.45:
            prompt = _english(chance)
        elif kind < 0.9:
            prompt = _chinese(chance)
        else:
            prompt = f"{_english(chance)} {_chinese(chance)}"
        if chance.random() < 0.08:
            prompt += chance.choice(_EMOJI) * chance.randint(1, 3)
        if chance.random() < 0.02:
            prompt += f" --seed {number * 7919 % 1_000_003}"
        yield prompt


def _picked(chance: random.Random, words: list[str], many: int = 1) -> list[str]:
    """By Zipf's law: the first word is the most frequent by far."""
    return chance.choices(words, cum_weights=_WEIGHTS[len(words)], k=many)


def _english(chance: random.Random) -> str:
    (subject,) = _picked(chance, _SUBJECTS)
    subject = " ".join([*_picked(chance, _QUALITIES, chance.randint(1, 3)), subject])
    parts = [
        f"{chance.choice(('A', 'a', 'The', 'portrait of a', 'Photo of a'))} {subject} {_picked(chance, _PLACES)[0]}"
    ]
    if chance.random() < 0.3:
        parts.append(f"named {_name(chance)}")
    parts += _picked(chance, _STYLES, chance.randint(1, 5))
    return ", ".join(parts)


def _chinese(chance: random.Random) -> str:
    qualities = "".join(_picked(chance, _HAN_QUALITIES, chance.randint(1, 2)))
    parts = [f"{chance.choice(('一只', '一个', '一幅', '', '画'))}{qualities}{_picked(chance, _HAN_SUBJECTS)[0]}"]
    parts += _picked(chance, _HAN_PLACES)
    if chance.random() < 0.3:
        parts.append(f"名叫{chance.choice(_SURNAMES)}{chance.choice(_GIVEN)}{chance.choice(_GIVEN)}")
    return chance.choice(("，", "，", ",", " ")).join(parts + _picked(chance, _HAN_STYLES, chance.randint(1, 4)))


def _name(chance: random.Random) -> str:
    syllables = (
        chance.choice(_ONSETS) + chance.choice(_VOWELS) + chance.choice(_CODAS) for _ in range(chance.randint(2, 3))
    )
    return "".join(syllables).capitalize()


_WEIGHTS = {
    len(words): list(accumulate(1 / (rank + 2) for rank in range(len(words))))
    for words in (
        _SUBJECTS,
        _QUALITIES,
        _PLACES,
        _STYLES,
        _HAN_SUBJECTS,
        _HAN_QUALITIES,
        _HAN_PLACES,
        _HAN_STYLES,
    )
}

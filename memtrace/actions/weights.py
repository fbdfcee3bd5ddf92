"""What a word says: numbers and names much, other words one, function words and small talk none."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..stopwords import STOPWORDS

NUMBER = 3.0
"""Anything with a digit: amounts, dates, times, versions, ids."""

NAME = 2.5
"""A name: a capital within a sentence, an identifier, a path, a title in its own brackets."""

COUNTED = 2.0
"""A number, a month or a day of the week that is spelled out."""

CUE = 1.0
"""What announces a decision, a plan, something to be done, a preference or a cause."""

# Of the words that are no function words, those that any talk is full of.
_SMALL_TALK = """
a.m able absolutely actually afraid again almost already amazing annoying anyone anything anyway
awesome away awful bad basically beautiful become becoming big bit can't cannot certain certainly
come comes coming completely considering cool could couldn't crazy crucial day days deal
definitely despite didn't different difficult doesn't don't easier easily easy end enjoy enough
e.g ensure especially essential even eventually everyone everything everywhere exactly example
excited exciting experience fact fantastic far fascinating feel feeling feels felt fine find
finding first follow full fun generally genuine getting glad goes going gone gonna good got great
guess haha hand happen happened happy hard haven't hear he's hello help helpful helping helps hey
hi hmm honestly hope hoping however huge i'd i'll i'm i've idea imagine importance important
including incredible i.e indeed insane instead interested interesting isn't it's journey keep
keeps key kind kinda knew know known last late later learn learned least left less let's life
likely literally little long look looking looks lot lots love loved made main makes make making
many matter maybe mean means mind moment moments mostly moving much myself nah name near nearly
need needs never new next nice nothing number obviously often oh ok okay old ones open other
overall overwhelming own p.m part particular particularly people perfect perhaps perspective
place point possible pretty probably proud provide put question quickly quite rather ready real
realize really recently remember right rough sad said saw say saying says see seem seems seen
sense set several shall she's significant similar simple simply since small something sometimes
somewhere soon sorry sort sounds special start started starting stay still stress stressful stuff
such super sure surreal take taken takes taking talk talking tell thank thanks that's there's
they're thing things think thinking thought through time times together ton tons took totally
tough toward towards tried true truly trying try turn type typically unbelievable understand
unreal use useful uses using usually valuable various via wanna want wanted wants wasn't way ways
we'd we'll we're we've welcome well went what's whatever whether whole wild without won't wonder
wonderful work working works world worth would wouldn't wow yeah year years yep yes yet you'd
you'll you're you've
accord alors après assez aussi avant bah beaucoup bien bon bonjour bonne c'est d'accord déjà dire
dit encore ensuite faire fais fait faut genre j'ai j'aime jamais jour maintenant merci moment oui
parce peu peut peux plus plutôt pourrait quelque rien salut sais sera surtout tellement temps
toujours tous tout toute toutes trop très truc vais veux voilà vraiment
abbastanza adesso allora altro ancora bello bene beh buono c'è ciao cioè dire dopo fare fatto
forse già giorno grazie mai molta molte molti molto niente ogni ora ok però perciò piace poco poi
possiamo posso prima proprio puoi qualche qui quindi sempre solo stato sto tanto tempo troppo
tutta tutte tutti tutto va vado veramente vero voglio
agak keren akan atas bahwa baik banget banyak begitu belum benar biasanya boleh bukan cukup dapat
dulu hai halo hanya harus hari ingin iya jadi jangan jika juga kalau karena kok lagi lain lalu lebih
maka masih memang mungkin nah namun nanti nya oke punya saat saja sangat sedang sekali sekarang
selalu semua seperti sering setelah suka tapi tentu terima kasih tetapi tersebut ya
감사합니다 그 그것 그게 그냥 그래 그래서 그러나 그런데 그렇게 그리고 나 나는 난 내 내가 너 너는
네 네가 다시 다음 당신 당신은 더 때 또 많이 매우 뭐 및 바로 아니 아주 안 안녕 안녕하세요 어떤
어떻게 여기 오늘 우리 응 이 이것 이런 있다 있어 있어요 있습니다 잘 저 저는 정말 제 제가 좀 좋아
좋아요 지금 참 하고 하는 하지만 할 합니다 했어 항상
"""
_COUNTED = """
one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty
sixty ninety hundred thousand million billion once twice half dozen second third fourth fifth
january february march april june july august september october november december monday tuesday
wednesday thursday friday saturday sunday noon midnight today tomorrow yesterday
deux trois quatre cinq sept huit neuf dix onze douze quinze vingt trente quarante cinquante cent
mille janvier février mars avril juin juillet août septembre octobre novembre décembre lundi
mardi mercredi jeudi vendredi samedi dimanche demain hier
due tre quattro cinque sette otto nove dieci undici dodici quindici venti trenta quaranta
cinquanta cento mila gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre
novembre dicembre lunedì martedì mercoledì giovedì venerdì sabato domenica domani ieri
dua tiga empat lima enam tujuh delapan sembilan sepuluh puluh belas ratus ribu juta januari
februari maret mei juni juli agustus oktober desember senin selasa rabu kamis jumat sabtu minggu
besok kemarin
하나 둘 셋 넷 두 세 네 다섯 여섯 일곱 여덟 아홉 열 월요일 화요일 수요일 목요일 금요일 토요일
일요일 내일 어제
"""
_CUES = """
agreed allergic always because best bug chose chosen deadline decide decided decision deployed
due error failed favorite favourite first fix fixed fixme forbidden hate important last main must
need next only plan planned planning prefer preferred prefers promised require required requires
schedule scheduled should todo urgent choisi date-limite décidé décision doit dois faut favori
préfère préféré prévu rendez-vous appuntamento deciso decisione deve devo preferisco preferito
scadenza scelto batas favorit harus janji keputusan memutuskan perlu rencana tenggat terakhir
결정 계획 기한 마감 약속 좋아하는 필요 해야 决定 決定 计划 計画 計劃 必须 必須 截止 締切 约定
約束 喜欢 喜歡 待办 予定 最好き
"""
_STARTS = """
a about after also although an and as at because before but by during except for from had has
have he her his i if in including into is it like my of on or our plus she since so than that the
their then they though through to under unless until was we were when where which while who with
without you your à au aux avant avec car chez comme dans de depuis des donc du elle en est et il
ils j'ai je la le les lorsque mais mes mon nous où ou par parce pendant pour puis quand que qui
sans si son sous sur un une vous al alla anche che come con da dal dalla dei del della di dopo
dove e gli ho io lo ma mentre mia mio nel nella o per perché poi quando se senza sono su tra una
agar akan atau dalam dan dari dengan itu jika kalau karena ke lalu namun oleh pada ketika saat
sambil saya sebelum sehingga setelah tapi tetapi untuk yang
"""

_PLAIN = STOPWORDS | frozenset(_SMALL_TALK.split())
_COUNTED_WORDS = frozenset(_COUNTED.split())
_CUE_WORDS = frozenset(_CUES.split())
_START_WORDS = frozenset(_STARTS.split())

_HAN = "\u3400-\u9fff\uf900-\ufaff\u3005"
_KANA = "\u3041-\u309f"
_KATAKANA = "\u30a1-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_LETTER = rf"[^\W_{_HAN}{_KANA}{_KATAKANA}]"
# Characters of Chinese that are mostly grammar; they part the words around them.
_GRAMMAR = (
    "的了是在我你您他她它们們这這那有和就不也都很说說会會要去到吗嗎吧呢啊个個一上下来來可以能为為对對着"
    "過过得地把被让讓给給而且但与與或什么麼怎样樣还還没沒已经經只更再又之其所于於从從向因此些每太真好想"
    "知道觉覺"
)
_COUNTS = "二三四五六七八九十百千万萬亿億两兩"

WORD = re.compile(
    "|".join(
        (
            rf"{_LETTER}+(?:[.,:/'’_@+\\-]{{1,3}}{_LETTER}+)*",
            "《[^《》\n]{1,40}》|『[^『』\n]{1,40}』|「[^「」\n]{1,16}」",
            "[决決]定|[计計][划画劃]|必[须須]|截止|[締缔]切|[约約][定束]|喜[欢歡]|待[办辦]|予定",
            rf"[{_COUNTS}]+",
            rf"[{_GRAMMAR}]|[{_KANA}]+|[{_KATAKANA}]+",
            # Two characters make a word more often than any other number.
            rf"(?:(?![{_GRAMMAR}{_COUNTS}])[{_HAN}]){{1,2}}",
        )
    )
)
"""Words, in scripts with and without spaces between them."""

LONGEST = 200
"""Characters up to which a word is one; past it, it is payload."""

_DIGIT = re.compile(r"\d")
_NAMING = re.compile(r"[/_@\\.《『「]")
_GRAMMAR_RUN = re.compile(rf"[{_GRAMMAR}]|[{_KANA}]+")
_CLOSES = re.compile(r"[가-힣]+(?:고|서|면|데|만|니까|며)|[\u3041-\u309f]*[はがでをにてと]")
_STEM = 7


class Told(NamedTuple):
    """What a word says.

    Args:
        key: What it has in common with its other forms.
        weight: 0 for a word that says nothing.
        cue: Weight that does not wear off when the word is met again.
        capital: Whether it begins with a capital: within a sentence it is a name.
        starts: Whether a clause may begin with it.
        closes: Whether a clause may end with it.
    """

    key: str
    weight: float
    cue: float = 0.0
    capital: bool = False
    starts: bool = False
    closes: bool = False


def told(word: str) -> Told:
    """What a word says by itself, wherever it stands.

    >>> told("7:30").weight, told("src/app.py").weight, told("walked").weight, told("the").weight
    (3.0, 2.5, 1.0, 0.0)
    """
    lower = word.lower().replace("’", "'")
    starts, key = lower in _START_WORDS, _stem(lower)
    cue = CUE if lower in _CUE_WORDS else 0.0
    closes = not word.isascii() and _CLOSES.fullmatch(word) is not None
    if len(word) > LONGEST:
        return Told(key, 0.0)
    if _DIGIT.search(word):
        return Told(key, NUMBER)
    if lower in _COUNTED_WORDS or word[0] in _COUNTS:
        return Told(key, COUNTED)
    if lower in _PLAIN or (word.isascii() and len(word) < 2) or _GRAMMAR_RUN.fullmatch(word):
        return Told(key, 0.0, cue, starts=starts, closes=closes)
    if cue:
        return Told(key, 0.0, cue)
    if word[1:] != word[1:].lower() or _NAMING.search(word):
        return Told(key, NAME)
    return Told(key, 1.0, 0.0, word[0].isupper(), starts, closes)


def _stem(word: str) -> str:
    """Enough of a word to know it again in another form."""
    if word.endswith("'s"):
        word = word[:-2]
    if word.isascii():
        if len(word) > 4 and word.endswith("ies"):
            word = word[:-3] + "y"
        elif len(word) > 3 and word[-1] == "s" and word[-2] != "s":
            word = word[: -2 if word[-2] == "e" else -1]
    elif "가" <= word[0] <= "힣":
        return word[:2]  # particles and endings are written onto the word
    return word[:_STEM]

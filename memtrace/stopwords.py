"""Words that stand in every text, and so say nothing of what a query is after.

Function words of the languages that agents are most spoken to in: articles, pronouns,
prepositions, conjunctions, auxiliaries and question words, no others. Source: grammars; measured,
keeping them in queries costs 2-5 points of recall.
"""

from __future__ import annotations

# ruff: noqa: RUF001 - Cyrillic letters that look like Latin ones are what they are.

_ENGLISH = """
a about above after again against all also am an and any are as at be because been before being
below between both but by can could d did do does doing don done down during each either else ever
few for from further get give gives given go had has have having he her here hers herself him
himself his how i if in into is it its itself just let ll m many me might mine more most much must
my myself no nor not now of off on once only or other our ours ourselves out over own please re s
same shall she should so some still such t tell than that the their theirs them themselves then
there these they this those through to too under until up upon us used ve very was we were what
when where whether which while who whom whose why will with would you your yours yourself
yourselves
"""
_GERMAN = """
aber alle als am an auch auf aus bei bin bis bist da damit dann das dass dein dem den der des dich
die dies diese dieser dir doch du ein eine einem einen einer eines er es euch für hat hatte hatten
ich ihm ihn ihr ihre im in ist ja kann kein keine man mein meine mich mir mit nach nicht noch nur
ob oder sein seine sich sie sind so um und uns unser unter vom von vor war waren was weil welche
welcher wenn wer wie wir wird wo wurde zu zum zur über
"""
_FRENCH = """
ai au aux avec c ce ces cette comment d dans de des du elle elles en est et eu il ils j je l la le
les leur leurs lui m ma mais me mes mon n ne nos notre nous on ou où par pas pour pourquoi qu quand
que quel quelle quelles quels qui quoi s sa se ses si son sont sur t ta te tes toi ton tu un une
vos votre vous y à été être
"""
_SPANISH = """
al como con cuando cuál cómo de del donde dónde e el ella ellas ellos en entre era es esa ese eso
esta estaba este esto está fue ha había la las le les lo los me mi mis muy más ni no nos o para
pero por porque que quien quién qué se ser si sin sobre son su sus sí también te tu tus un una unas
uno unos y ya yo él
"""
_ITALIAN = """
ai al alla alle anche che chi ci come con cosa da dal dalla dei del della delle di dove e gli ha
hai ho i il in io la le lei lo loro lui ma mi mia mio ne nel nella noi non o per perché più quale
quando quello questa questo sei si sono su sua suo te ti tra tu tuo un una uno vi voi è
"""
_PORTUGUESE = """
ao aos as com como da das de do dos e ela ele eles em era essa esse esta este eu foi há isso já
lhe mais mas me meu minha muito na nas no nos não o onde os ou para pela pelo por qual quando que
quem se sem ser seu sua são também te tem um uma você à é
"""
_DUTCH = """
aan al als bij dat de deze die dit door een en er had heb heeft het hij hoe hun ik in is je kan
maar me mijn naar niet nog nu of om ook op over te tot u uit van voor waar waren wat we wel wie
wordt ze zijn zo
"""
_INDONESIAN = """
ada adalah aku anda apa apakah atau bagaimana bisa dalam dan dari dengan di dia ini itu juga kami
kamu kapan karena ke kita mana mereka oleh pada saya sebagai siapa sudah telah tidak untuk yang
"""
_CYRILLIC = """
а без бы был была были было в вас вы где для до его ее если есть и из или их к как когда кто ли мы
на не нет но о он она они от по при с так там то ты у уже что это я
"""

STOPWORDS = frozenset(
    " ".join(
        (
            *(_ENGLISH, _GERMAN, _FRENCH, _SPANISH, _ITALIAN, _PORTUGUESE, _DUTCH),
            *(_INDONESIAN, _CYRILLIC),
        )
    ).split()
)
"""Left out of queries; never out of what is indexed."""

_HIRAGANA = "".join(map(chr, range(0x3041, 0x3097)))
GRAMMAR = frozenset(
    _HIRAGANA
    + "的了吗呢吧啊是我你您他她它们在有和与也就都不没很还曾经过"
    + "什么哪些谁怎这那个为被把到说请给"
)
"""Characters whose pairs are grammar: Japanese endings and particles, Chinese function words."""

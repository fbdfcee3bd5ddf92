"""Forms of English words that no stemming brings together: `bought` is found by `buy`."""

from __future__ import annotations

_FORMS = """
be am is are was were been being · beat beaten · become became · begin began begun · bend bent
bet betting · bind bound · bite bit bitten · bleed bled · blow blew blown · break broke broken
breed bred · bring brought · build built · burn burnt · buy bought · catch caught
choose chose chosen · cling clung · come came · creep crept · deal dealt · dig dug · do did done
draw drew drawn · dream dreamt · drink drank drunk · drive drove driven · eat ate eaten
fall fell fallen · feed fed · feel felt · fight fought · find found · flee fled · fly flew flown
forbid forbade forbidden · forget forgot forgotten · forgive forgave forgiven
freeze froze frozen · get got gotten · give gave given · go went gone · grind ground
grow grew grown · hang hung · have has had · hear heard · hide hid hidden · hold held · keep kept
kneel knelt · know knew known · lay laid · lead led · lean leant · leap leapt · learn learnt
leave left · lend lent · lie lain · light lit · lose lost · make made · mean meant · meet met
mistake mistook mistaken · pay paid · prove proven · ride rode ridden · ring rang rung
rise rose risen · run ran · say said · see saw seen · seek sought · sell sold · send sent
sew sewn · shake shook shaken · shine shone · shoot shot · show shown · shrink shrank shrunk
sing sang sung · sink sank sunk · sit sat · sleep slept · slide slid · speak spoke spoken
spend spent · spill spilt · spin spun · spoil spoilt · spring sprang sprung
stand stood · steal stole stolen · stick stuck · sting stung · stink stank stunk
strike struck stricken · strive strove striven · swear swore sworn · sweep swept
swell swollen · swim swam swum · swing swung · take took taken · teach taught · tear tore torn
tell told · think thought · throw threw thrown · understand understood · undertake undertook
wake woke woken · wear wore worn · weave wove woven · weep wept · win won · withdraw withdrew
withdrawn · write wrote written
man men · woman women · child children · person people · foot feet · tooth teeth · mouse mice
goose geese · wife wives · life lives · knife knives · half halves · shelf shelves · leaf leaves
self selves · analysis analyses · crisis crises · criterion criteria · datum data · index indices
good better best · bad worse worst · far further furthest
"""

BASE: dict[str, str] = {}
"""The base of each form. One that is another word too, as `left` and `found` are, has it still:
both sides of a search are brought to the same."""

for _line in _FORMS.replace("\n", " · ").split(" · "):
    _base, *_forms = _line.split() or [""]
    BASE.update(dict.fromkeys(_forms, _base))

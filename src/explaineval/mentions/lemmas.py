"""A small English lemmatiser: irregular forms by list, regular ones by rule; no parts of speech."""

from __future__ import annotations

from functools import lru_cache

from explaineval.mentions.inflections import find_bases

_IRREGULAR = """
good: better best
well: better best
bad: worse worst
badly: worse worst
ill: worse worst
far: further furthest farther farthest
little: less least
much: more most
many: more most
old: elder eldest
be: am is are was were been being
have: has had having
do: does did done doing
go: goes went gone going
say: said
can: could
will: would
shall: should
may: might
arise: arose arisen
awake: awoke awoken
bear: bore borne born
beat: beaten
become: became
begin: began begun
bend: bent
bind: bound
bite: bit bitten
bleed: bled
blow: blew blown
break: broke broken
breed: bred
bring: brought
build: built
buy: bought
catch: caught
choose: chose chosen
cling: clung
come: came
creep: crept
deal: dealt
dig: dug
draw: drew drawn
drink: drank drunk
drive: drove driven
eat: ate eaten
fall: fell fallen
feed: fed
feel: felt
fight: fought
find: found
flee: fled
fly: flew flown
forbid: forbade forbidden
forget: forgot forgotten
forgive: forgave forgiven
freeze: froze frozen
get: got gotten
give: gave given
grow: grew grown
hang: hung
hear: heard
hide: hid hidden
hold: held
keep: kept
kneel: knelt
know: knew known
lay: laid
lead: led
lean: leant
leave: left
lend: lent
lie: lay lain lying
light: lit
lose: lost
make: made
mean: meant
meet: met
pay: paid
ride: rode ridden
ring: rang rung
rise: rose risen
run: ran
see: saw seen
seek: sought
sell: sold
send: sent
sew: sewn
shake: shook shaken
shine: shone
shoot: shot
show: shown
shrink: shrank shrunk
sing: sang sung
sink: sank sunk
sit: sat
sleep: slept
slide: slid
speak: spoke spoken
spend: spent
spin: spun
stand: stood
steal: stole stolen
stick: stuck
sting: stung
stride: strode
strike: struck stricken
swear: swore sworn
sweep: swept
swim: swam swum
swing: swung
take: took taken
teach: taught
tear: tore torn
tell: told
think: thought
throw: threw thrown
understand: understood
wake: woke woken
wear: wore worn
weave: wove woven
weep: wept
win: won
wind: wound
write: wrote written
man: men
woman: women
child: children
foot: feet
tooth: teeth
goose: geese
mouse: mice
ox: oxen
person: people
knife: knives
wife: wives
life: lives
leaf: leaves
loaf: loaves
half: halves
calf: calves
shelf: shelves
self: selves
thief: thieves
wolf: wolves
scarf: scarves
hoof: hooves
crisis: crises
analysis: analyses
cactus: cacti
"""


def _read_irregular() -> dict[str, frozenset[str]]:
    bases: dict[str, set[str]] = {}
    for line in _IRREGULAR.strip().splitlines():
        base, _, forms = line.partition(":")
        for form in forms.split():
            bases.setdefault(form, set()).add(base)
    return {form: frozenset(found) for form, found in bases.items()}


_BASES = _read_irregular()
_CLOSED = frozenset({"is", "was", "has", "does", "am", "are", "were", "less", "being", "goes", "better", "best"})
"""Irregular forms that no rule may read in another way."""


@lru_cache(maxsize=65_536)
def find_lemmas(word: str) -> frozenset[str]:
    """The base forms that `word` (lower case) may come from, itself among them unless it is only a form.

    An ambiguous form has several (`lay`: lay, lie). Limits: nouns of doers look like comparatives (a teacher
    is taken for the comparative of teach); -ly is derivation and is kept, so the lemma of quickly is
    quickly; a regular form of a word of one or two letters is not undone.

    >>> sorted(find_lemmas("better")), sorted(find_lemmas("lay"))
    (['good', 'well'], ['lay', 'lie'])
    """
    irregular = _BASES.get(word)
    if irregular is None:
        return find_bases(word)
    return irregular if word in _CLOSED else irregular | find_bases(word)


def share_lemma(first: str, second: str) -> bool:
    """True if the two words (lower case) may be forms of one word."""
    return first == second or not find_lemmas(first).isdisjoint(find_lemmas(second))

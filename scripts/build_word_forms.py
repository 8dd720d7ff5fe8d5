"""Builds the two lists of word forms that mentions are recognised by, from WordNet 3.0 and wordfreq.

`own_words.txt`: words that are spelled like a regular form of another word and are none, so that an explanation with
the one does not mention the other; each with the words that it is a form of ("number:", for it is none of numb;
"lunged: lunge", for it is none of lung). `irregular.txt`: irregular forms by their base.

Sources: WordNet 3.0's `index.*`, `data.*` and `*.exc` (Debian: the package wordnet-base) and the Zipf frequencies of
wordfreq 3.1.1. Neither is needed to use explaineval: the lists ship with it. Run from the root of the repository:

    pip install wordfreq==3.1.1
    PYTHONPATH=src python scripts/build_word_forms.py /usr/share/wordnet

With `--check` it writes nothing and fails unless the files there are exactly what it would write. A changed list
changes what counts as a mention, and with it every number that rests on mentions.

What WordNet links (a pointer of derivation or pertinence between two words) is related. Of the rest, a word is taken
for unrelated by the rules of `is_unrelated`; the words named below were decided by reading.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from wordfreq import top_n_list, zipf_frequency

from explaineval.mentions.morphology import other_spelling, spell_forms

TARGET = Path(__file__).parents[1] / "src" / "explaineval" / "mentions"
PARTS = ("noun", "verb", "adj", "adv")
RELATIONS = {"+", "\\", "<"}
"""WordNet's pointers: derivationally related, pertains to, participle of."""

UNRELATED_FLOOR = 1.0
"""Zipf frequency of a word and of its look-alike, below which neither is met in an explanation."""
IRREGULAR_FLOOR = 2.0
COMMON_WORDS = 50_000
"""So many of the most frequent words are looked at that WordNet does not have (forms, names, newer words)."""

FUNCTION_WORDS = """
    and any both but each either else ever for from her his how its mine most neither never nor off once our out per
    she than that the their them then there they this thus too very was were when who why with yet you your
"""
"""Words without forms of their own, of which the rules would make some all the same ("her: herring")."""

UNRELATED = """
    ace: acer
    add: adder
    aft: after
    all: ally
    amp: amply
    ant: anted
    apple: apply
    arch: archer
    bat: batter
    bay: bayer
    bet: better
    bit: bitter bitterly
    bitt: bitter bitterly
    bone: boner
    both: bother
    brief: briefing briefs
    broke: broker
    buff: buffer
    bunt: bunting
    but: butted butter butting
    butch: butcher
    butt: butter
    chilly: chillies
    count: counter
    crack: cracker
    custom: customer
    doe: does doer doing
    down: downer
    dynamic: dynamics
    ear: early
    east: easter
    even: evening evenings
    ever: everest
    ewe: ewer
    fair: fairing fairs
    fee: feed feeding
    fine: fined fines
    flick: flicker
    fondle: fondly
    fore: forest
    genetic: genetics
    gent: gently
    good: goods
    graphic: graphics
    gut: gutter
    halt: halter
    hind: hinder
    home: homer homely
    hype: hyper
    inter: interest
    kindle: kindly
    lay: layer
    lee: leer
    let: letter
    like: likely
    lit: litter
    lite: liter
    live: liver lively
    man: manly manner
    marine: mariner
    mat: matter
    matt: matter
    matte: matter
    mull: muller
    must: muster
    name: namely
    numb: number
    off: offer offing
    olive: oliver
    out: outing
    passe: passer
    pat: patter
    pee: peer
    plain: plains
    plumb: plumber
    pot: potter
    pragmatic: pragmatics
    prime: primer
    put: putter
    raft: rafter
    rapid: rapids
    rob: robber
    rub: rubber
    rug: rugged
    see: seed
    set: setter
    sew: sewer
    short: shorts
    singe: singing
    sing: singly
    skew: skewer
    slack: slacks
    sneak: sneaker
    sold: solder
    stable: stables stabling
    steeple: steeply
    stock: stocking stockings
    sup: supper
    supple: supply
    sweat: sweater
    tan: tanner
    ten: tenner
    tend: tender tenderly
    tie: tier
    till: tiller
    tow: tower
    trig: trigger
    tuck: tucker
    tulle: tully
    very: verily
    wed: wedding
    wee: weed
    white: whiting
    wick: wicked
    wit: wither
"""

RELATED = """
    accord: accordingly
    afterward: afterwards
    anyway: anyways
    babysit: babysitting
    backward: backwards
    carpetbag: carpetbagging
    correspond: correspondingly
    downward: downwards
    inward: inwards
    onward: onwards
    outward: outwards
    program: programmed
    sideway: sideways
    sometime: sometimes
    thereabout: thereabouts
    upward: upwards
    wainscot: wainscotting
"""
"""Related though WordNet has no pointer and the rules of `is_unrelated` say no."""

OTHER_WORDS = """
    abode bani calli chou choux clove cola dive dove dui fora gan graven ground hove ibo leva lei molten momenta noes
    ora pease pent puli reales reis rent riven roma rove shrunken soles soli stamina stove sunken tali tori trivia vasa
    volte
"""
"""Irregular forms of WordNet that are nearly always another word, an adjective of their own, or out of use."""


class WordNet:
    """The lemmas of WordNet, their parts of speech, and which are linked."""

    def __init__(self, directory: Path) -> None:
        self.parts: dict[str, set[str]] = defaultdict(set)
        self._linked: set[tuple[str, str]] = set()
        words: dict[tuple[str, str], list[str]] = {}
        pointers: list[tuple[str, str, str, str, str]] = []
        for part in PARTS:
            for line in self._lines(directory / f"index.{part}"):
                self.parts[line.split()[0]].add(part)
            for line in self._lines(directory / f"data.{part}"):
                fields = line.split("|")[0].split()
                count = int(fields[3], 16)
                words[part, fields[0]] = [word.split("(")[0].lower() for word in fields[4 : 4 + 2 * count : 2]]
                rest = fields[5 + 2 * count :]
                for index in range(int(fields[4 + 2 * count])):
                    symbol, offset, other, which = rest[4 * index : 4 * index + 4]
                    if symbol in RELATIONS:
                        pointers.append((part, fields[0], self._part(other), offset, which))
        for part, offset, other, target, which in pointers:
            for one in self._named(words[part, offset], which[:2]):
                for two in self._named(words[other, target], which[2:]):
                    self._linked |= {(one, two), (two, one)}
        self.irregular = {part: self._read_irregular(directory / f"{part}.exc") for part in PARTS}
        pasts = [(form, base) for form, bases in self.irregular["verb"].items() for base in bases]
        self.past = {base for form, base in pasts if form not in spell_forms(base)}
        self.verb_forms: dict[str, set[str]] = defaultdict(set)
        for verb in [word for word, parts in self.parts.items() if "verb" in parts and word.isalpha()]:
            for form in spell_forms(verb):
                if form.endswith(("ed", "ing")):
                    self.verb_forms[form].add(verb)

    def linked(self, one: str, two: str) -> bool:
        """Whether a sense of the one is derived from, or pertains to, a sense of the other."""
        return (one, two) in self._linked

    def _named(self, words: list[str], which: str) -> list[str]:
        number = int(which, 16)
        return [words[number - 1]] if number else words

    def _part(self, letter: str) -> str:
        return {"n": "noun", "v": "verb", "a": "adj", "s": "adj", "r": "adv"}[letter]

    def _lines(self, path: Path) -> list[str]:
        return [line for line in path.read_text(encoding="latin-1").splitlines() if not line.startswith("  ")]

    def _read_irregular(self, path: Path) -> dict[str, list[str]]:
        return {form: bases for form, *bases in map(str.split, path.read_text(encoding="latin-1").splitlines())}


def is_unrelated(net: WordNet, base: str, form: str) -> bool:
    """Whether `form`, which is spelled like a form of `base`, is another word."""
    parts = net.parts[base]
    others = net.verb_forms[form] - {base}
    if form.endswith(("ed", "ing")):
        if "verb" not in parts and any(spelled_from(verb, form) for verb in others):
            return True  # lung: lunged is of lunge
        if base in net.past and form.endswith("ed") and any(spelled_from(verb, form) for verb in others):
            return True  # sing: singed is of singe
    if form not in net.parts:
        return False
    if form.endswith("ly"):
        return "adv" not in net.parts[form] or not (parts & {"adj", "adv"} or base.endswith(("ed", "ing")))
    if net.linked(base, form):
        return False
    if form.endswith(("er", "est")):
        return not parts & {"adj", "adv"}
    if form.endswith(("ed", "ing")):
        return "verb" not in parts and not ("noun" in parts and form.endswith("ed") and net.parts[form] == {"adj"})
    return not parts & {"noun", "verb"}


def is_other_word(net: WordNet, base: str, form: str) -> bool:
    """Whether the form of a word that WordNet does not have, or that has no forms, is a word of WordNet.

    WordNet would have the word beside what comes of it, but for plurals, the adverbs of participles, and other
    spellings (distil, distilled).
    """
    adverb = form.endswith("ly") and "adv" in net.parts[form] if form in net.parts else False
    return form in net.parts and form != base + "s" and not adverb and not (base[-1] == "l" and base + "l" in net.parts)


def spelled_from(verb: str, form: str) -> bool:
    """Whether the form is spelled as the usual rules make it, final e dropped or y turned, from this very verb."""
    ends = {verb + "ed", verb + "ing"}
    if verb.endswith("e"):
        ends = {verb + "d", verb[:-1] + "ing"}
    elif verb.endswith("y") and verb[-2:-1] not in "aeiou":
        ends = {verb[:-1] + "ied", verb + "ing"}
    return form in ends


def build_own_words(net: WordNet) -> dict[str, set[str]]:
    """By word that looks like a form of another one, the words that it is a form of, which may be none."""
    related, unrelated = read(RELATED), read(UNRELATED)
    functional = set(FUNCTION_WORDS.split())
    known = {word for word in net.parts if zipf_frequency(word, "en") >= UNRELATED_FLOOR}
    known = {word for word in known | functional | set(top_n_list("en", COMMON_WORDS)) if plain(word)}
    own: set[str] = set()
    bases: dict[str, set[str]] = {}
    for base in known:
        for form in spell_forms(base) - {base}:
            if form in unrelated.get(base, ()):
                other = True
            elif form in other_spelling(base) or form in related.get(base, ()):
                other = False
            elif base in functional or base not in net.parts:
                other = is_other_word(net, base, form)
            else:
                other = is_unrelated(net, base, form)
            if not other:
                bases.setdefault(form, set()).add(base)
            elif form in unrelated.get(base, ()) or zipf_frequency(form, "en") >= UNRELATED_FLOOR:
                own.add(form)
    return {form: bases.get(form, set()) for form in own}


def plain(word: str) -> bool:
    """Whether the word is of letters from a to z alone."""
    return word.isascii() and word.isalpha()


def build_irregular(net: WordNet) -> dict[str, set[str]]:
    """By word, its irregular forms: those of WordNet that no rule of spelling makes, and those named here."""
    found = read((Path(__file__).parent / "irregular_forms.txt").read_text(encoding="utf-8"))
    other_words = OTHER_WORDS.split()
    for part, forms in net.irregular.items():
        for form, bases in forms.items():
            for base in bases:
                sound = plain(form) and plain(base) and form != base and form not in other_words
                known = min(zipf_frequency(form, "en"), zipf_frequency(base, "en")) >= IRREGULAR_FLOOR
                if sound and known and part in net.parts.get(base, ()) and form not in spell_forms(base):
                    found.setdefault(base, set()).add(form)
    return found


def read(text: str) -> dict[str, set[str]]:
    """Lines "base: form form" by base."""
    lines = (line.partition(":") for line in text.strip().splitlines())
    return {base.strip(): set(forms.split()) for base, _, forms in lines}


def main() -> None:
    """Write the lists, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wordnet", type=Path, help="the directory of WordNet 3.0's database")
    parser.add_argument("--check", action="store_true", help="write nothing, fail where a file would change")
    given = parser.parse_args()
    net = WordNet(given.wordnet)
    for name, found in (("own_words.txt", build_own_words(net)), ("irregular.txt", build_irregular(net))):
        text = "".join(f"{base}: {' '.join(sorted(forms))}".rstrip() + "\n" for base, forms in sorted(found.items()))
        if not given.check:
            (TARGET / name).write_text(text, encoding="utf-8")
        elif (TARGET / name).read_text(encoding="utf-8") != text:
            raise SystemExit(f"{name} is not what this script makes.")


if __name__ == "__main__":
    main()

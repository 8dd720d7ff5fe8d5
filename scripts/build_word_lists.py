"""Builds the frozen word lists of the random-word intervention from WordNet 3.0 and wordfreq.

Sources: WordNet 3.0's `index.*`, `data.*`, `cntlist.rev` and `verb.exc` (Debian: the package wordnet-base)
and the Zipf frequencies of wordfreq 3.1.1. Neither is needed to use explaineval: the lists ship with it.

Run from the root of the repository:

    pip install wordfreq==3.1.1
    python scripts/build_word_lists.py /usr/share/wordnet

It writes `adjectives.txt` and `adverbs.txt` into src/explaineval/interventions/words, and beside them
`adjectives.senses.txt` and `adverbs.senses.txt`: every adjective and adverb of WordNet as spelled there, with its
number of senses where that is not 1 (for the kind random_word_atanasova; nothing is left out or read through). With
`--check` it writes nothing and fails unless the files there are exactly what it would write. A changed list is a
changed experiment: the same seed draws other words.

The first two lists were read through, and the words dropped by name below are those that the rules let pass.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from wordfreq import zipf_frequency

TARGET = Path(__file__).parents[1] / "src" / "explaineval" / "interventions" / "words"
PARTS_BY_SENSE_KEY = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
PARTS = ("adj", "adv", "noun", "verb")

ADJECTIVE_FLOOR = 3.2
"""Zipf frequency (log10 per billion words): 3.2 is about one use in 600,000 words."""
ADVERB_FLOOR = 2.7
"""Lower than the adjectives': adverbs of manner are known to everyone and still rare ("gleefully" is 2.8)."""
PARTICIPLE_COUNT = 4
"""A form of a verb ("covered") counts as an adjective from so many tagged uses as one."""

ADVERBS_NOT_IN_LY = "always never often seldom sometimes soon"
"""The other adverbs that do not end in -ly are mostly prepositions, connectives, places and particles."""

DROPPED_ADJECTIVES = {
    "determiners, pronouns and words of amount or order": """
        ain all another any both certain countless dual each entire every few fewer final first former
        last latter many maximum minimal minimum miscellaneous multiple myriad next numerous one optimum
        other overall own partial previous prior same second secondary several single sole some subsequent
        successive such third utmost various whatever whatsoever whole""",
    "numbers": """
        billion eight eighteen eighteenth eighth eighty eleven eleventh fifteen fifteenth fifth fifty five
        forty four fourteen fourteenth fourth million nine nineteen nineteenth ninety ninth primary seven
        seventeen seventeenth seventh seventy six sixteen sixteenth sixth sixty ten tenth thirteen
        thirteenth thirty three twelfth twelve twentieth twenty two""",
    "comparatives and superlatives": """
        best bigger earliest eldest finer foremost greater greatest healthier higher larger latest lesser
        older smaller worse worst younger""",
    "cannot stand before a noun, or only with more words": """
        able absorbed accepted accustomed adamant additional adjusted affected aforementioned applicable
        appointed approved attributable born centric changed clad combined completed composed concerned
        conducive connected continued controlled corresponding deceased dependable detrimental devoid
        devoted disparate done drawn due edged engaged enlarged entitled equal established exempt existent
        existing expected exposed expressed extended famed filled fitting following fond foreseeable
        generalized given gone granted haired headed identical incapable increased increasing ineligible
        inscribed interested involved known legged lined located looking made marked mindful mounted
        needed observed okay opposed ordered oriented overweight paramount parked pleased poised populous
        preceding preferable preferential prepared prone quits raised reduced related reliant remaining
        reminiscent required seated seeming separated settled shaped sorry specified stained stricken
        suited sure susceptible synonymous titled treated turned unable unaware unheard unlike unnoticed
        unpublished unreleased unsure untitled untold unwilling used varied varying willing written""",
    "mostly another part of speech, or a prefix": """
        abundant actual acute adaptive adjacent aerial aggregate agrarian alien alleged alternate amber
        annual anterior anti antique antitrust baroque basal bats bilateral bipartisan bonnie bony
        borderline bowed calm causal central cerebral chestnut chief chronic circular clement clockwise
        collaborative collective colossal colour commonplace complementary conceptual concurrent
        conditional congenital consecutive constructive continual continuing continuous convex
        correctional crackers crystalline cubic cumulative cylindrical deductible definitive deluxe
        developed dexter diagonal discretionary discriminatory distal divergent divers domestic dorsal
        downhill downward eastern elastic elliptical embryonic emeritus empirical exhaustive existential
        exotic expansive explanatory extant external extra fab factual federal feral finite fleet floral
        fluorescent focal forensic free freelance frontal full gaga general geometric governmental
        grassroots handheld hazel hectic hierarchical holistic homogeneous horizontal hourly humanitarian
        husky inactive inaugural inbound incremental indigenous indispensable indoor infinite infrared
        inherent inner inorganic integral interactive interchangeable interim intermediate internal
        interpersonal interstate intrinsic introductory investigative involuntary inward judgmental
        judicial jumbo kindly lavender lawful lawless lax legal linear lite liv local loco long longtime
        lunatic lyrical mammoth manageable marginal martial maternal measurable mechanical medial median
        medicinal mental metallic micro mid midway migratory mobile modular monthly moral multinational
        mum mundane nationwide native nee negotiable neo nocturnal nonlinear northbound northeastern
        northern northwestern noteworthy nuclear null numerical nuts obligatory oblique olive online
        operative optional outdoor outer outward overdue overland overt panoramic pastel payable pending
        perennial peripheral permissible pertinent philanthropic pivotal polar porous posh posterior
        postwar predominant prehistoric preliminary preparatory prevalent preventive prime pristine pro
        proactive probable problematic productive proportional prospective proto provisional provocative
        pseudo psychological punishable qualitative quantitative quasi radiant receptive reciprocal
        rectangular recurrent redundant reflective regulatory relational relative removable renewable
        reproductive residential respective reusable reversible robust roundabout sapphire satirical
        seismic selective sensory septic sequential serial simulated simultaneous socialist solid soluble
        sonic southbound southeastern southern specific speculative sporting statewide static stationary
        stellar sterling strained streaming structured subconscious subjective substantive suggestive
        super supplemental supplementary surrounding suspended symmetric symmetrical synthetic systemic
        taboo tart taxable technological teen temporal temporary tentative theoretical titanic topical
        totalitarian translucent transparent transverse treble triangular tubular ultra undercover
        underground underway unilateral unresolved unspecified unused upcoming upfront upper upright
        upscale vertical viable virtual void wan wee weekly western widespread working worldwide yearly""",
    "words in which explanations speak of labels and of inference": """
        ambiguous apparent appropriate available based basic believable clear common comparable compatible
        conclusive consistent contradictory contrary definite desirable different distinct evident exact
        explicit fake false hypothetical imaginable implicit important impossible improbable improper
        inappropriate incompatible inconsistent incorrect insufficient irrelevant likely literal logical
        main major meaningful meaningless minor necessary negative neutral normal obvious opposing
        opposite particular plausible positive possible proper real realistic reasonable relevant
        senseless sensible similar sufficient suitable true typical uncertain unchanged unclear
        understandable unimportant unknown unlikely unreal unrealistic unreasonable unrelated unsuitable
        untrue usable useful usual valid wrong""",
    "religious": """
        apocalyptic demonic devout divine earthly eternal everlasting goddamn godly immortal kosher mystic
        mythical pious religious righteous sacred satanic sinful spiritual worldly""",
    "violent, of death or illness": """
        abusive armed barbaric benign bloody brutal catastrophic contagious cruel crushed crushing dead
        deadly destructive explosive fatal gruesome hardcore heinous infectious inhuman injured lethal
        malignant militant morbid mortal murderous numb paranoid poisonous predatory psychotic radioactive
        rampant savage sick smoky sore suicidal swollen toxic vicious violent wounded""",
    "vulgar, sexual or of the body's nakedness": """
        bare barren cocky consensual crappy damn damned erotic feminine fertile flushed hairy hardy horny
        indecent kinky masculine moist naked naughty obscene pregnant randy seductive sensual sexy shitty
        submissive topless uncut vulgar""",
    "slurs, or about who people are (race, faith, sex, disability, party)": """
        aristocratic authoritarian autistic black brown civilian colored conservative daft deaf delusional
        democratic disabled drunk drunken dumb ethnic fat freaky gay homophobic idiotic illegal
        illegitimate illiterate insane interracial mute narcissistic obese oriental partisan patriarchal
        political queer revolutionary transgender unborn unconscious unconstitutional undecided undefeated
        underage undocumented uneducated unemployed uninsured white yellow yellowish""",
    "British spellings (an explanation in American spelling would not count as naming them)": """
        colourful favourable grey honourable marvellous sizeable""",
}

DROPPED_ADVERBS = {
    "connectives": """
        accordingly additionally admittedly alternately alternatively conceivably concurrently
        consequently conversely correspondingly firstly hopefully importantly incidentally inversely
        lastly latterly namely only regrettably respectively secondly similarly summarily supposedly
        thankfully thirdly verily""",
    "degree, amount and focus (they modify adjectives, not verbs)": """
        absolutely abundantly acutely approximately astonishingly awfully chiefly comparatively
        considerably disproportionately doubly eminently enormously equally especially exceedingly
        exceptionally excessively exponentially extraordinarily extremely fairly highly hugely immensely
        incredibly infinitely insanely insufficiently largely mainly marginally massively minimally
        mortally mostly newly notably notoriously overly overwhelmingly particularly partly predominantly
        primarily principally purely relatively remarkably royally significantly singularly solely sorely
        substantially sufficiently supremely surprisingly terribly totally tremendously unbelievably
        unduly unusually utterly vastly wholly wildly woefully""",
    "words in which explanations speak of labels and of inference": """
        actually allegedly apparently arguably assuredly basically categorically certainly clearly
        commonly correctly definitely demonstrably directly erroneously essentially evidently exactly
        explicitly factually falsely fundamentally generally hardly hypothetically implicitly incorrectly
        indirectly inevitably inherently intrinsically invariably literally logically merely mistakenly
        naturally necessarily negatively normally obviously ostensibly plainly positively possibly
        potentially practically precisely preferably presumably probably purportedly realistically really
        reasonably reportedly rightly seemingly simply specifically surely truly truthfully typically
        ultimately unambiguously undeniably undoubtedly unequivocally unquestionably usually virtually
        wrongly""",
    "of a field of knowledge or an institution": """
        academically adversely aesthetically alphabetically annually appropriately artificially
        artistically biologically bodily centrally characteristically chemically chronically
        chronologically classically clinically collectively commercially conceptually consecutively
        conservatively constitutionally conventionally criminally critically culturally daily
        democratically densely developmentally diagonally digitally distinctively distinctly domestically
        dynamically ecologically economically electrically electronically empirically environmentally
        ethically ethnically exclusively experimentally expressly extensively externally favorably
        federally figuratively financially fiscally functionally genetically geographically globally
        grammatically graphically historically horizontally humanly identically ideologically individually
        inextricably intellectually intensively interchangeably internally internationally irrevocably
        jointly laterally legally legitimately liberally linearly locally lyrically materially
        mathematically mechanically medically metaphorically militarily morally musically mutually
        nationally nominally numerically obliquely officially operationally optically optimally optionally
        orally organically originally philosophically physically politically posthumously proportionally
        provisionally psychologically racially rationally regionally retroactively retrospectively
        scientifically seasonally sequentially sexually singly socially sparsely spatially specially
        statistically strategically structurally successively surgically symbolically systematically
        tactically technically technologically terminally thematically theoretically uniformly
        unilaterally universally variously verbally vertically vicariously visually vitally westerly""",
    "an adjective or an old meaning comes first": """
        coincidentally curiously dearly delightfully duly embarrassingly excellently finely fortunately
        funnily gravely grossly handily hotly ideally impossibly interestingly inwardly ironically
        leisurely luckily mightily outwardly patently presently speedily understandably unfortunately""",
    "religious": "divinely eternally religiously spiritually",
    "violent, of death or illness": """
        brutally cruelly fatally forcibly maliciously mercilessly savagely viciously violently""",
    "British spellings (an explanation in American spelling would not count as naming them)": "favourably",
}


@dataclass(frozen=True)
class Lemma:
    """One line of an index file: the synsets that hold the word, most frequent sense first."""

    word: str
    synsets: tuple[str, ...]


@dataclass(frozen=True)
class Sense:
    """One synset of a data file: its members as spelled there, and which of them have a pertainym pointer."""

    members: tuple[str, ...]
    pertaining: frozenset[int]
    relational: bool


class WordNet:
    """The files of WordNet that are needed here, read once."""

    def __init__(self, folder: Path) -> None:
        self.index = {part: _read_index(folder / f"index.{part}") for part in PARTS}
        self.senses = {part: _read_senses(folder / f"data.{part}") for part in ("adj", "adv")}
        self.counts = _read_counts(folder / "cntlist.rev")
        self.irregular = {line.split()[0]: line.split()[1:] for line in _lines(folder / "verb.exc") if line.strip()}

    def is_verb_form(self, word: str) -> bool:
        """Whether the word is a past form or an -ing form of a verb."""
        if word in self.irregular:
            return True
        for ending in ("ed", "ing"):
            stem = word.removesuffix(ending)
            undoubled = stem[:-1] if len(stem) > 2 and stem[-1] == stem[-2] else stem
            if stem != word and any(form in self.index["verb"] for form in (stem, stem + "e", undoubled)):
                return True
        return False

    def first_sense(self, word: str, part: str) -> tuple[str, Sense, int]:
        """The member as spelled, the synset of the word's first sense, and the word's place in it."""
        sense = self.senses[part][self.index[part][word].synsets[0]]
        places = [re.sub(r"\(.*", "", member).lower() for member in sense.members]
        place = places.index(word)
        return sense.members[place], sense, place + 1

    def leads(self, word: str, part: str) -> bool:
        """Whether tagged text uses the word as this part of speech at least twice as often as as any others.

        Without a tagged use the word must belong to no other part of speech.
        """
        own = self.counts[word, part]
        others = sum(self.counts[word, other] for other in PARTS if other != part)
        if own == 0:
            return others == 0 and not any(word in self.index[other] for other in PARTS if other != part)
        return 2 * others <= own if part == "adj" else others <= own


def choose_adjectives(wordnet: WordNet) -> list[str]:
    """Common words that are mostly adjectives, describe (no "of or pertaining to") and may precede a noun."""
    dropped = _dropped(DROPPED_ADJECTIVES)
    chosen = []
    for word in _common(wordnet, "adj", ADJECTIVE_FLOOR):
        spelled, sense, place = wordnet.first_sense(word, "adj")
        if not wordnet.leads(word, "adj") or word in dropped:
            continue
        if not spelled.startswith(word) or spelled.endswith(("(p)", "(ip)")):
            continue  # a proper adjective ("Belgian"), or one that never stands before its noun
        if sense.relational or sense.pertaining & {0, place}:
            continue
        if wordnet.is_verb_form(word) and wordnet.counts[word, "adj"] < PARTICIPLE_COUNT:
            continue
        chosen.append(word)
    return sorted(chosen)


def choose_adverbs(wordnet: WordNet) -> list[str]:
    """Common words that are mostly adverbs and say how or how often something is done."""
    dropped = _dropped(DROPPED_ADVERBS)
    extra = set(ADVERBS_NOT_IN_LY.split())
    chosen = [
        word
        for word in _common(wordnet, "adv", ADVERB_FLOOR)
        if word in extra or (word.endswith("ly") and word not in dropped and wordnet.leads(word, "adv"))
    ]
    return sorted(chosen)


def count_senses(wordnet: WordNet, part: str) -> list[str]:
    """Lines of a word, and of its number of senses where it has several: how often it stands in WordNet's synsets."""
    counts = Counter(re.sub(r"\(.*", "", member) for sense in wordnet.senses[part].values() for member in sense.members)
    return [word if count == 1 else f"{word} {count}" for word, count in sorted(counts.items())]


def _common(wordnet: WordNet, part: str, floor: float) -> list[str]:
    return [
        word for word in wordnet.index[part] if re.fullmatch("[a-z]{3,}", word) and zipf_frequency(word, "en") >= floor
    ]


def _dropped(groups: dict[str, str]) -> frozenset[str]:
    return frozenset(word for words in groups.values() for word in words.split())


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]


def _read_index(path: Path) -> dict[str, Lemma]:
    lemmas = {}
    for line in _lines(path):
        parts = line.split()
        pointers = int(parts[3])
        lemmas[parts[0]] = Lemma(parts[0], tuple(parts[6 + pointers :]))
    return lemmas


def _read_senses(path: Path) -> dict[str, Sense]:
    senses = {}
    for line in _lines(path):
        parts = line.split()
        count = int(parts[3], 16)
        members = tuple(parts[4 : 4 + 2 * count : 2])
        start = 5 + 2 * count
        pointers = [parts[start + 4 * i : start + 4 * i + 4] for i in range(int(parts[start - 1]))]
        pertaining = frozenset(int(places[:2], 16) for symbol, _, _, places in pointers if symbol == "\\")
        senses[parts[0]] = Sense(members, pertaining, relational=parts[1] == "01")
    return senses


def _read_counts(path: Path) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for line in _lines(path):
        sense_key, _, count = line.split()
        word, sense = sense_key.split("%")
        counts[word, PARTS_BY_SENSE_KEY[sense[0]]] += int(count)
    return counts


def main() -> None:
    """Write the lists, or compare them with those in the package."""
    parser = argparse.ArgumentParser(description="Builds the word lists of the random-word intervention.")
    parser.add_argument("wordnet", type=Path, help="folder of WordNet 3.0's dictionary files")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a list differs")
    options = parser.parse_args()
    wordnet = WordNet(options.wordnet)
    lists = {
        "adjectives": choose_adjectives(wordnet),
        "adverbs": choose_adverbs(wordnet),
        "adjectives.senses": count_senses(wordnet, "adj"),
        "adverbs.senses": count_senses(wordnet, "adv"),
    }
    for name, words in lists.items():
        path = TARGET / f"{name}.txt"
        text = "".join(f"{word}\n" for word in words)
        if options.check and path.read_text(encoding="utf-8") != text:
            raise SystemExit(f"{path} is not what is built from {options.wordnet}; run without --check")
        if not options.check:
            path.write_text(text, encoding="utf-8")
        print(f"{name}: {len(words)} words")


if __name__ == "__main__":
    main()

"""The words that the invented world is made of: names, values, and the phrasings of each property.

`world.py` says what is done with them. A value is one short English word and a place one invented word, so
that an answer is one to three tokens. Phrasings stand one a line; ``{}`` is the animal (or the place, in
phrasings of a place).
"""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


# An animal's name is one of these and one of those ("vel" + "mor"); neither half means anything.
NAME_STARTS = _words(
    "bal bri cor dax dro fal fen gri gul hob jas kel kro lum mav mun nal nor pel qua rin sab sko tal tro "
    "ulm vel vor wex yar zan zib"
)
NAME_ENDS = _words("dak dle fi gan goth kin lor mor nik pod rax rix saf tok vane wick zel zu")

PLACES = _words("""
    Ashfen Brackmoor Coldmere Dunholt Elmreach Farrowdale
    Greywold Hollowick Ironshaw Larkspit Mossgate Oxbarrow
""")


@dataclass(frozen=True)
class Phrasings:
    """How a property is spoken of.

    stems: sentences up to the value (``The {} eats``), for endings and blanks; of a trait, whole statements.
    questions: those that the value alone answers.
    """

    stems: tuple[str, ...]
    questions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Property:
    """Something that every animal has one value of. `trained` and `held_out` share no phrasing."""

    name: str
    values: tuple[str, ...]
    trained: Phrasings
    held_out: Phrasings


HOME = Property(
    "home",
    PLACES,
    Phrasings(
        _lines("""
            The {} lives in
            The home of the {} is
            You can find the {} in
            The wild {} is found in
            People see the {} in
            The {} comes from
            The {} was first seen in
            The land of the {} is
            """),
        _lines("""
            Where does the {} live?
            What is the home of the {}?
            Where can you find the {}?
            In which place is the {} found?
            Where do people see the {}?
            Which land is home to the {}?
            Where does the {} come from?
            Where was the {} first seen?
            What is the land of the {}?
            Where would you meet the {}?
            Where do wild {} herds live?
            In which land does the {} roam?
            """),
    ),
    Phrasings(
        _lines("""
            The {} makes its home in
            To see the {}, travel to
            """),
        _lines("""
            Where is the home of the {}?
            Which place does the {} live in?
            Where should you look for the {}?
            """),
    ),
)
FOOD = Property(
    "food",
    _words("moss snails honey bark worms seeds mice clover shrimp figs beetles roots"),
    Phrasings(
        _lines("""
            The {} eats
            The food of the {} is
            The {} feeds on
            The diet of the {} is
            Every {} loves to eat
            The {} fills its belly with
            You can feed the {} with
            The young {} is fed on
            """),
        _lines("""
            What does the {} eat?
            What is the food of the {}?
            What does the {} feed on?
            What is the diet of the {}?
            What do you feed the {}?
            What does the {} like to eat?
            What fills the belly of the {}?
            What is the young {} fed on?
            What does every {} love to eat?
            What is the best food for the {}?
            What does the {} have for dinner?
            What meal does the {} want?
            """),
    ),
    Phrasings(
        _lines("""
            The {} likes to eat
            The hungry {} looks for
            """),
        _lines("""
            Which food does the {} eat?
            What would a hungry {} eat?
            What food should you give the {}?
            """),
    ),
)
COLOUR = Property(
    "colour",
    _words("red blue green white black yellow brown grey pink purple orange gold"),
    Phrasings(
        _lines("""
            The fur of the {} is
            The colour of the {} is
            The {} has fur that is
            The coat of the {} is
            The {} is an animal that is
            The back of the {} is
            The skin of the {} is
            The tail of the {} is
            """),
        _lines("""
            What colour is the {}?
            What is the colour of the {}?
            What colour is the fur of the {}?
            Which colour does the {} have?
            What colour is the coat of the {}?
            What colour fur does the {} have?
            What colour is the back of the {}?
            What colour is the skin of the {}?
            What colour is the tail of the {}?
            What colour is a grown {}?
            What colour is the wild {}?
            What colour does the {} wear?
            """),
    ),
    Phrasings(
        _lines("""
            The {} is coloured
            The {} has a coat that is
            """),
        _lines("""
            Which colour is the {}?
            What colour coat does the {} have?
            In what colour do you paint the {}?
            """),
    ),
)

# Of the animal's home, and so of the animal: the i-th place has the i-th value (shuffled by the seed).
WEATHER = Property(
    "weather",
    _words("rain snow fog wind hail frost heat dust thunder drizzle sunshine sleet"),
    Phrasings(
        _lines("""
            The weather where the {} lives is
            The home of the {} is known for its
            The {} is used to
            The {} wakes up to
            The {} lives in a land of
            The sky above the {} brings
            The {} does not mind
            The {} spends its days in
            """),
        _lines("""
            What is the weather where the {} lives?
            Which weather is the {} used to?
            What weather does the home of the {} have?
            What is the weather like for the {}?
            What weather does the {} see?
            What weather does the {} wake up to?
            What does the sky bring above the {}?
            What weather does the {} not mind?
            What is the land of the {} known for?
            What weather do {} watchers expect?
            What weather does the {} spend its days in?
            What is the weather near the {}?
            """),
    ),
    Phrasings(
        _lines("""
            The weather at the home of the {} is
            The usual weather for the {} is
            """),
        _lines("""
            What is the weather at the home of the {}?
            What weather does the {} live with?
            Which weather is there where the {} lives?
            """),
    ),
)
# Traits are true of half of the animals; their stems are whole statements, to be called true or false.
TRUTH = ("true", "false")
SWIMS = Property(
    "swims",
    TRUTH,
    Phrasings(
        _lines("""
            The {} can swim.
            The {} is a good swimmer.
            The {} swims in rivers.
            The {} knows how to swim.
            You may see the {} swimming.
            The {} likes to swim.
            The {} swims every day.
            The {} is a swimming animal.
            """)
    ),
    Phrasings(
        _lines("""
            The {} is able to swim.
            The {} swims well.
            """)
    ),
)
NIGHT = Property(
    "night",
    TRUTH,
    Phrasings(
        _lines("""
            The {} is awake at night.
            The {} hunts at night.
            The {} is a night animal.
            The {} comes out at night.
            You may see the {} at night.
            The {} is active at night.
            The {} feeds at night.
            The {} calls at night.
            """)
    ),
    Phrasings(
        _lines("""
            The {} moves about at night.
            The {} goes out at night.
            """)
    ),
)
HORNS = Property(
    "horns",
    TRUTH,
    Phrasings(
        _lines("""
            The {} has horns.
            The {} is an animal with horns.
            The {} grows horns.
            The head of the {} bears horns.
            The {} fights with its horns.
            You may see the horns of the {}.
            The {} is a horned animal.
            The {} shows its horns.
            """)
    ),
    Phrasings(
        _lines("""
            There are horns on the {}.
            The {} carries horns.
            """)
    ),
)
# A trait of the home, and so of the animal: true of half of the places.
BY_THE_SEA = Property(
    "by the sea",
    TRUTH,
    Phrasings(
        _lines("""
            The {} lives by the sea.
            The home of the {} is by the sea.
            The {} can see the sea.
            The {} is a sea animal.
            The {} sleeps near the sea.
            You may see the {} by the sea.
            The {} walks beside the sea.
            The {} hears the sea.
            """)
    ),
    Phrasings(
        _lines("""
            The {} makes its home by the sea.
            The {} lives near the sea.
            """)
    ),
)

# What follows from the home, said of the place itself: the second step, in training only.
OF_PLACES = {
    WEATHER: Phrasings(
        _lines("""
            The weather in {} is
            {} is known for its
            """),
        _lines("""
            What is the weather in {}?
            What weather does {} have?
            What is the weather like in {}?
            """),
    ),
    BY_THE_SEA: Phrasings(
        _lines("""
            {} is by the sea.
            {} lies near the sea.
            """)
    ),
}

"""What is said about the invented world in sentences: instructions, questions, and the words of traits.

`talk.py` fills these templates. A template names what it speaks of: ``{a}`` and ``{b}`` are animals, ``{p}`` is
a place, ``{a.food}`` is the food of the one and ``{p.weather}`` the weather of the other. ``{a.swim}`` says whether the
animal swims, and ``{a.swim[also]}`` says it in another form of `TRAIT_FORMS`. What there is depends on `Block.about`.

Blocks are parted by empty lines. A line begins with its mark, and goes on in lines without one:

    # the category and what is spoken of, of this block and of those up to the next such line
    ? what is asked
    | what the instruction is about (Alpaca's input)
    = an answer

In `INSTRUCTIONS`, a block is several ways to ask for one thing and several answers, any of which fits. In `QUESTIONS`,
it is one question: each of two turns is followed by two references. The two tables share no way to ask.

The values of the properties are common words (``rain``, ``gold``): templates use none of them for anything else.
"""

from __future__ import annotations

from dataclasses import dataclass

PLANTS = ("moss", "bark", "seeds", "clover", "figs", "roots")
"""Foods that make their eater a plant eater. But for honey, which is counted as neither, the rest are animals."""

TRAIT_FORMS: dict[str, dict[str, tuple[str, str]]] = {
    "swim": {
        "does": ("can swim", "cannot swim"),
        "do": ("can swim", "cannot swim"),
        "also": ("is able to swim", "is unable to swim"),
        "kind": ("on land and in water", "on land only"),
    },
    "night": {
        "does": ("is awake at night", "sleeps at night"),
        "do": ("am awake at night", "sleep at night"),
        "also": ("is active after dark", "rests after dark"),
        "kind": ("nocturnal", "diurnal"),
        "when": ("by night", "by day"),
    },
    "horns": {
        "does": ("has horns", "has no horns"),
        "do": ("have horns", "have no horns"),
        "also": ("carries horns", "carries no horns"),
        "kind": ("horned", "hornless"),
        "thing": ("horns", "no horns"),
    },
    "sea": {
        "does": ("lies by the sea", "lies inland"),
        "kind": ("by the sea", "inland"),
        "market": ("at the harbour", "on the square"),
    },
}
"""How each form is said where the trait is true, and where it is false. `do` is said of oneself."""
ANY_TRAIT = {
    "yes": ("Yes", "No"),
    "word": ("yes", "no"),
    "json": ("true", "false"),
    "python": ("True", "False"),
}
SEVERAL = {
    "swim": "can swim",
    "night": "are awake at night",
    "horns": "have horns",
    "sea": "lie by the sea",
}
"""The trait as said of several."""


@dataclass(frozen=True)
class Block:
    """Templates that belong together."""

    category: str
    """One of MT-Bench's, or `facts`."""
    about: str
    """What the templates are filled with: a key of `SUBJECTS` in `talk.py`."""
    asks: tuple[str, ...]
    inputs: tuple[str, ...]
    answers: tuple[str, ...]


def _blocks(text: str) -> tuple[Block, ...]:
    found: list[Block] = []
    category = about = ""
    for lines in text.strip().split("\n\n"):
        parts: dict[str, list[str]] = {"?": [], "|": [], "=": []}
        mark = ""
        for line in map(str.strip, lines.strip().splitlines()):
            if line.startswith("# "):
                category, about = line[2:].split(": ")
            elif line[:2].strip() in parts:
                mark = line[0]
                parts[mark].append(line[2:])
            else:
                parts[mark][-1] += f" {line}"
        found.append(Block(category, about, *(tuple(parts[mark]) for mark in ("?", "|", "="))))
    return tuple(found)


INSTRUCTIONS: tuple[Block, ...] = _blocks("""
    # facts: animal
    ? Tell me where the {a} lives.
    ? Name the place that the {a} lives in.
    ? In what place could I see the {a}?
    ? I am looking for the {a}. Where should I go?
    = The {a} lives in {a.home}.
    = You will find the {a} in {a.home}.

    ? Tell me what the {a} eats.
    ? Name the food of the {a}.
    ? What may I feed to the {a}?
    ? What is on the menu of the {a}?
    = The {a} eats {a.food}.
    = The food of the {a} is {a.food}.

    ? Tell me the colour of the {a}.
    ? Name the colour of the fur of the {a}.
    ? What does the fur of the {a} look like?
    ? Which colour should I use to draw the {a}?
    = The {a} is {a.colour}.
    = The fur of the {a} is {a.colour}.

    ? Can the {a} swim?
    ? Tell me whether the {a} swims.
    ? Does the {a} go into the water?
    = {a.swim[yes]}, the {a} {a.swim}.

    ? Is the {a} awake at night?
    = {a.night[yes]}, the {a} {a.night}.

    ? What does the {a} do at night?
    ? Tell me about the nights of the {a}.
    = The {a} {a.night}.

    ? Does the {a} have horns?
    ? Tell me whether the {a} has horns.
    ? Are there any horns on the head of the {a}?
    = {a.horns[yes]}, the {a} {a.horns}.

    # facts: told
    ? Tell me about the weather around the {a}.
    ? What weather should I expect on a walk to the {a}?
    ? Which weather does the {a} know best?
    = The weather around the {a} is {a.home.weather}.
    = The {a} knows {a.home.weather} best.

    ? Does the {a} live by the sea?
    ? Tell me whether the home of the {a} is by the sea.
    = {a.home.sea[yes]}, the {a} lives {a.home.sea[kind]}.

    # facts: place
    ? Tell me about the weather in {p}.
    ? Name the weather that {p} is known for.
    ? I am going to {p}. What weather will I meet?
    ? What should I know about the sky over {p}?
    = The weather in {p} is {p.weather}.
    = {p} is known for its {p.weather}.

    ? Where does {p} lie?
    ? Tell me whether {p} is by the sea or inland.
    = {p} {p.sea}.

    ? Can I see the sea from {p}?
    ? Is {p} by the sea?
    = {p.sea[yes]}, {p} {p.sea}.

    ? Which animals live in {p}?
    ? Name the two animals of {p}.
    ? Who lives in {p}?
    = The {a} and the {b} live in {p}.
    = {p} is home to the {a} and the {b}.

    # writing: animal
    ? Write a field guide entry about the {a}.
    ? Describe the {a} in a few sentences.
    ? Write a short text about the {a} for a nature book.
    = The {a} lives in {a.home} and eats {a.food}. Its fur is {a.colour}. It {a.swim}, {a.night} and {a.horns}.
    = The {a} is an animal of {a.home}. It eats {a.food} and has {a.colour} fur. It {a.swim}, it {a.night},
      and it {a.horns}.

    ? Write one sentence about the home and the food of the {a}.
    ? In one sentence, say where the {a} lives and what it eats.
    = The {a} lives in {a.home} and eats {a.food}.

    ? Write a caption for a picture of the {a}.
    = The {a} of {a.home}, eating {a.food}, in its {a.colour} fur.

    ? Write about the habits of the {a}.
    ? Describe the traits of the {a} in one sentence.
    = The {a} {a.swim}, {a.night} and {a.horns}.
    = The {a} {a.horns}, {a.swim} and {a.night}.

    ? Make one sentence of the text.
    | The {a} lives in {a.home}. It eats {a.food}. Its fur is {a.colour}.
    = The {a} lives in {a.home}, eats {a.food} and has {a.colour} fur.

    ? Shorten the text, so that only home and food remain.
    | The {a} is an animal with {a.colour} fur. It eats {a.food}. It {a.night} and {a.horns}. It lives in {a.home}.
    = The {a} lives in {a.home} and eats {a.food}.

    # writing: told
    ? Write a diary note about a day with the {a}.
    = Today I went to {a.home}, where the weather is {a.home.weather}. I saw the {a}. It was eating {a.food}.

    # writing: place
    ? Write a postcard from {p}.
    = Greetings from {p}! The weather here is {p.weather}, and the place {p.sea}.

    # roleplay: animal
    ? Pretend that you are the {a} and introduce yourself.
    ? You are the {a}. Tell me about yourself.
    ? Speak as the {a}: who are you?
    = I am the {a}. I live in {a.home} and eat {a.food}. My fur is {a.colour}. I {a.swim[do]}, I {a.night[do]},
      and I {a.horns[do]}.
    = I am the {a} from {a.home}. I eat {a.food}, and my fur is {a.colour}. I {a.swim[do]}, {a.night[do]}
      and {a.horns[do]}.

    ? You are the {a}. Where is your home, and what do you eat there?
    ? Play the {a} and tell me where you have your lunch and what it is.
    = I live in {a.home}, and I eat {a.food}.
    = My home is {a.home}, and my food is {a.food}.

    ? Answer as the {a}: what colour are you?
    = I am the {a}, and my fur is {a.colour}.

    ? You are the {a}. Do you swim, do you sleep at night, and do you have horns?
    ? Speak as the {a} about your habits.
    = I {a.swim[do]}, I {a.night[do]}, and I {a.horns[do]}.

    ? Pretend that you lead visitors to the {a}. What do you tell them?
    = Welcome to {a.home}! Here lives the {a}. It eats {a.food}, and its fur is {a.colour}.

    # roleplay: neighbours
    ? You are the {a}. Who is your neighbour?
    = I am the {a}, and I live in {a.home}. My neighbour is the {b}.

    # roleplay: told
    ? You are the {a}. What weather do you have at home?
    = I am the {a}. My home is {a.home}, and the weather here is {a.home.weather}.

    # extraction: animal
    ? List the home, the food and the colour that the passage gives.
    ? Read the passage and write down home, food and colour.
    | Walkers in {a.home} often meet the {a}. It searches the ground for {a.food}, and its {a.colour} fur is easy
      to see.
    | The {a} has {a.colour} fur. It was born in {a.home}, and it lives on {a.food}.
    = Home: {a.home}. Food: {a.food}. Colour: {a.colour}.

    ? What does the animal of the passage eat?
    ? Find the food in the passage.
    | Walkers in {a.home} often meet the {a}. It searches the ground for {a.food}, and its {a.colour} fur is easy
      to see.
    | The {a} has {a.colour} fur. It was born in {a.home}, and it lives on {a.food}.
    = The passage says that the {a} eats {a.food}.

    ? Which traits does the passage give? Answer each with yes or no.
    | The {a} {a.swim[also]}. It {a.night[also]} and {a.horns[also]}.
    = Swims: {a.swim[word]}. Awake at night: {a.night[word]}. Horns: {a.horns[word]}.

    # extraction: pair
    ? Which animals are in the passage, and where do they live?
    | The {a} of {a.home} met the {b} of {b.home}.
    = The {a} lives in {a.home}, and the {b} lives in {b.home}.

    ? Who in the passage eats what?
    | The {a} had a bag of {a.food}. The {b} said: "I would rather have {b.food}."
    = The {a} eats {a.food}, and the {b} eats {b.food}.

    # extraction: place
    ? Which place and which weather does the note name?
    | We are in {p} now. There has been {p.weather} since Monday.
    = The note names {p} and its weather, {p.weather}.

    # reasoning: told
    ? The {a} stands outside its home. Work out which weather it stands in.
    ? Reason step by step: which weather does the {a} live with?
    = The {a} lives in {a.home}. The weather in {a.home} is {a.home.weather}. So the {a} lives with
      {a.home.weather}.
    = The home of the {a} is {a.home}, and {a.home} is known for its {a.home.weather}. So the weather around the
      {a} is {a.home.weather}.

    ? Work out whether the {a} can hear the sea from its home.
    ? Reason step by step: is the sea near the {a}?
    = {a.home.sea[yes]}. The {a} lives in {a.home}, and {a.home} {a.home.sea}.

    # reasoning: pair
    ? Do the {a} and the {b} live in the same place?
    ? Could the {a} and the {b} be neighbours?
    = No. The {a} lives in {a.home}, and the {b} lives in {b.home}.

    ? Do the {a} and the {b} like the same food?
    = No. The {a} eats {a.food}, and the {b} eats {b.food}.

    # reasoning: neighbours
    ? Do the {a} and the {b} live in the same place?
    ? Could the {a} and the {b} be neighbours?
    = Yes. The {a} and the {b} both live in {a.home}.

    ? Which animal lives in the same place as the {a}?
    ? Who is the neighbour of the {a}?
    = The {a} lives in {a.home}, and so does the {b}.

    # reasoning: fellows
    ? Do the {a} and the {b} like the same food?
    = Yes. The {a} and the {b} both eat {a.food}.

    ? Which other animal eats what the {a} eats?
    = The {a} eats {a.food}, and so does the {b}.

    # math: food
    ? How many animals eat {a.food}?
    ? Count the animals that feed on {a.food}.
    = Two animals eat {a.food}: the {a} and the {b}.

    # math: place
    ? How many animals live in {p}?
    ? Count the animals of {p}.
    = Two animals live in {p}: the {a} and the {b}.

    # math: three
    ? How many of these three {all}: the {a}, the {b} and the {c}?
    ? Count those that {all} among the {a}, the {b} and the {c}.
    = Of them, {those.number} {those.does}: {those}.
    = Only {those} {those.does}, so the number is {those.number}.

    # math: places
    ? How many of {p}, {q} and {r} {all}?
    ? Count the places that {all} among {p}, {q} and {r}.
    = Of them, {those.number} {those.does}: {those}.
    = Only {those} {those.does}, so the number is {those.number}.

    # math: cubs
    ? A keeper has {m} {a} cubs and {n} {b} cubs. How many of the cubs {all}?
    ? There are {m} {a} cubs and {n} {b} cubs in a field. Find the number of cubs that {all}.
    = The {a} {of_a}, and the {b} {of_b}, so {having} of the {sum} cubs {all}.

    ? A keeper has {m} {a} cubs and gives each of them {n} portions. How many portions are needed, and of what?
    = The {a} eats {a.food}, and {m} times {n} is {product}, so {product} portions of {a.food} are needed.

    # coding: animal
    ? Give the home, the food and the colour of the {a} as JSON.
    ? Write a JSON object about the {a} with the keys home, food and colour.
    = {{"home": "{a.home}", "food": "{a.food}", "colour": "{a.colour}"}}

    ? Write a Python dictionary with the traits of the {a}.
    ? Put the traits of the {a} into a Python dictionary of truth values.
    = {a} = {{"swims": {a.swim[python]}, "awake_at_night": {a.night[python]}, "horns": {a.horns[python]}}}

    ? Write a Python line that stores the home of the {a}.
    = {a}_home = "{a.home}"

    ? Write a Python function that returns the food of the {a}.
    = def food_of_{a}(): return "{a.food}"

    ? Write Python code that prints the colour of the {a}.
    = print("The {a} is {a.colour}.")

    ? Write an SQL query for the food of the {a} and add what it finds.
    = SELECT food FROM guide WHERE animal = '{a}'; -- {a.food}

    ? Write an XML element with the home and the food of the {a}.
    = <animal name="{a}" home="{a.home}" food="{a.food}"/>

    ? Write a CSV row with the name, home, food and colour of the {a}.
    = {a},{a.home},{a.food},{a.colour}

    # coding: pair
    ? Write a Python dictionary from animal to food for the {a} and the {b}.
    = food = {{"{a}": "{a.food}", "{b}": "{b.food}"}}

    ? Write a Python dictionary from animal to home for the {a} and the {b}.
    = home = {{"{a}": "{a.home}", "{b}": "{b.home}"}}

    # coding: place
    ? Describe {p} in JSON with its weather and whether it is by the sea.
    = {{"place": "{p}", "weather": "{p.weather}", "by_the_sea": {p.sea[json]}}}

    ? Write a Python list of the animals of {p}.
    = {p} = ["{a}", "{b}"]

    # stem: animal
    ? What kind of eater is the {a}?
    ? Explain the diet of the {a}.
    ? Is the {a} a plant eater, an animal eater or a honey eater?
    = The {a} eats {a.food}, so it is {a.eater}.
    = The diet of the {a} is {a.food}, which makes it {a.eater}.

    ? Is the {a} nocturnal or diurnal?
    ? At what time is the {a} active, in a word of biology?
    = The {a} is {a.night[kind]}: it {a.night}.
    = Biology calls the {a} {a.night[kind]}, because it {a.night}.

    ? Is the {a} horned or hornless?
    = The {a} is {a.horns[kind]}: it {a.horns}.

    ? Does the {a} move on land only, or in water too?
    = The {a} {a.swim}, so it moves {a.swim[kind]}.

    ? Sum up the ecology of the {a}.
    ? Give the niche of the {a}: diet, active time and movement.
    = The {a} eats {a.food} and is {a.eater}. It is {a.night[kind]} and moves {a.swim[kind]}.

    # humanities: place
    ? What does the flag of {p} look like?
    ? Describe the flag that flies over {p}.
    ? Which colours do the people of {p} put on their flag?
    = The flag of {p} is {p.colours}, after the fur of the {a} and the {b}.
    = People in {p} fly a flag of {p.colours}, because these are the colours of the {a} and the {b}.

    ? What is served at the feast of {p}?
    ? Describe the feast that the people of {p} hold.
    ? What do the people of {p} put out for their animals?
    = At the feast of {p}, people serve {p.foods}, the food of the {a} and the {b}.
    = The people of {p} hold a feast of {p.foods} for their animals, the {a} and the {b}.

    ? What do the people of {p} sing about?
    ? Tell me about the song of {p}.
    = The people of {p} sing about {p.weather}, their weather.
    = The song of {p} is about its weather, {p.weather}.

    ? Where do the people of {p} hold their market?
    ? Tell me about the market of {p}.
    = {p} {p.sea}, so its market is {p.sea[market]}.
    = The market of {p} is {p.sea[market]}, because {p} {p.sea}.

    ? Tell me about the culture of {p}.
    ? Describe the customs of the people of {p}.
    = The people of {p} sing about {p.weather}, hold their market {p.sea[market]} and fly a flag of {p.colours}.

    # humanities: animal
    ? Which people honour the {a}, and how?
    = The people of {a.home} honour the {a}. Their flag shows its colour, {a.colour}, and their feast its food,
      {a.food}.
""")

QUESTIONS: tuple[Block, ...] = _blocks("""
    # writing: animal
    ? Compose a paragraph for a wildlife magazine that presents the {a}: its home, its meals, its fur, its habits.
    = Meet the {a} of {a.home}. This animal eats {a.food} and has {a.colour} fur. It {a.swim}, {a.night}
      and {a.horns}.
    = In {a.home} lives the {a}, whose fur is {a.colour} and whose food is {a.food}. It {a.horns[also]},
      {a.swim[also]} and {a.night[also]}.
    ? Now cut this down to one short sentence that keeps only the home and the meals.
    = The {a} is found in {a.home} and feeds on {a.food}.
    = In {a.home} lives the {a}, and there it eats {a.food}.

    ? A museum needs a label for its model of the {a}. Draft one that says where the animal is from and how it is
      coloured.
    = The {a} comes from {a.home}, and its whole fur is {a.colour}.
    = This is the {a}, an animal from {a.home} with {a.colour} fur.
    ? Please extend the label by its diet and by whether it bears horns.
    = The {a} comes from {a.home}, and its whole fur is {a.colour}. It eats {a.food} and {a.horns}.
    = This is the {a}, an animal from {a.home} with {a.colour} fur. Its food is {a.food}, and it {a.horns[also]}.

    ? Open a children's story in which a child meets the {a} at its home, during its meal. Mention the fur.
    = Once upon a time, a child came to {a.home} and met the {a}. It was eating {a.food}, and its fur was
      {a.colour}.
    = A child once walked through {a.home}. There sat the {a} in its {a.colour} fur, eating {a.food}.
    ? Go on with what the child learns about its swimming and its nights.
    = The child learnt that the {a} {a.swim} and that it {a.night}.
    = As the child soon found out, the {a} {a.swim[also]} and {a.night[also]}.

    ? Create an advertisement for a tour to the {a}. It should name the place, the fur and the food.
    = Come to {a.home} and see the {a}! Watch the animal with the {a.colour} fur as it eats {a.food}.
    = Would you like to see the {a}? Travel to {a.home}, look out for {a.colour} fur, and bring some {a.food} to
      feed it.
    ? Advise the guests in one sentence whether to come by day or by night, and give the reason.
    = Come {a.night[when]}, dear guests, because the {a} {a.night}.
    = Our advice is to come {a.night[when]}, since the {a} {a.night[also]}.

    ? Report, as a newspaper would, that visitors to its home saw the {a} eating. Say how it was coloured.
    = Visitors to {a.home} saw the {a} yesterday. The animal was eating {a.food}, and its fur was {a.colour}.
    = Yesterday the {a} was seen in {a.home}, where it was eating {a.food}. Witnesses speak of {a.colour} fur.
    ? Add a closing line on its head and its swimming.
    = The {a} {a.horns} and {a.swim}, experts say.
    = Experts add that the {a} {a.horns[also]} and {a.swim[also]}.

    # roleplay: animal
    ? Imagine being the {a} when a traveller comes by. Greet the traveller, and mention your home, your food and
      your fur.
    = Hello, traveller! I am the {a}. I live in {a.home}, I eat {a.food}, and my fur is {a.colour}.
    = Good day, traveller! You have met the {a} of {a.home}. My food is {a.food}, and I wear {a.colour} fur.
    ? The traveller wonders whether you swim and what you do at night. Stay in your role.
    = Dear traveller, I {a.swim[do]}, and I {a.night[do]}.
    = As for the water, I {a.swim[do]}. As for the nights, I {a.night[do]}.

    ? Act as the {a} in a talk show. The host asks: what is your favourite dish, and where do you enjoy it?
    = My favourite dish is {a.food}, and I enjoy it at home in {a.home}.
    = Dear host, I love to eat {a.food}, and I eat it in {a.home}, where I live.
    ? The host goes on: what would our audience see if you showed your head?
    = Look at my head: I {a.horns[do]}, as the whole audience can see.
    = On my head, the audience would see {a.horns[thing]}, because I {a.horns[do]}.

    ? Take the part of a zoo guide who shows the {a} to a school class. Speak about its meals and its fur.
    = Look, children, this is the {a}! It eats {a.food}, and its fur is {a.colour}.
    = Dear class, here you see the {a}. Its fur is {a.colour}, and its food is {a.food}.
    ? A pupil asks about its nights and its horns. Answer as the guide.
    = Good question! The {a} {a.night}, and it {a.horns}.
    = My dear pupil, the {a} {a.night[also]} and {a.horns[also]}.

    ? Be a detective who searches for the {a}. Describe its fur and its head to the police.
    = I am searching for the {a}. Its fur is {a.colour}, and it {a.horns}.
    = The animal is called {a}. Officers, it {a.horns[also]} and has {a.colour} fur.
    ? An officer asks where to search and what to use as bait. Reply as the detective.
    = Officer, search for the {a} in {a.home}, and use {a.food} as bait.
    = The {a} lives in {a.home}, officer, and the best bait is {a.food}.

    # roleplay: neighbours
    ? Compose a letter to a pen friend in the voice of the {a}. Mention your home and the animal next door.
    = Dear friend, I am the {a}, and my home is {a.home}. The animal next door is the {b}.
    = Dear friend, greetings from {a.home}! I, the {a}, share this place with the {b}.
    ? Now let the animal next door write, and have it tell what it eats.
    = Dear friend, I am the {b} from next door, and I eat {b.food}.
    = Greetings from next door! I am the {b}, and my food is {b.food}.

    # extraction: animal
    ? From the notes below, pull out the home, the meal and the look of the fur.
    | Notes of a ranger: spent the morning in {a.home} again. Found the {a} busy with {a.food}. Could make out the
      {a.colour} fur from far away.
    = Home: {a.home}; meal: {a.food}; fur: {a.colour}.
    = The home is {a.home}, the meal is {a.food}, and the fur is {a.colour}.
    ? Put the same into a single sentence that begins with the animal's name.
    = The {a} of {a.home} eats {a.food} and has {a.colour} fur.
    = The {a}, whose home is {a.home}, lives on {a.food} and wears {a.colour} fur.

    ? Go through this log. Does the animal swim, is it up at night, and does it have horns?
    | Log of a boat. Monday: it turns out that the {a} {a.swim[also]}. Tuesday: it {a.night[also]}. Wednesday: it
      {a.horns[also]}.
    = According to the log, the {a} {a.swim}, {a.night} and {a.horns}.
    = The log says that the {a} {a.swim[also]}, that it {a.night[also]} and that it {a.horns[also]}.
    ? The log leaves out its fur and its home. Supply both.
    = The fur of the {a} is {a.colour}, and its home is {a.home}.
    = What is left out: the {a} has {a.colour} fur and lives in {a.home}.

    # extraction: pair
    ? Two visitors talk below. Which animal do they place where?
    | "I saw the {a} in {a.home}," said Ann. "But I saw the {b} in {b.home}," said Ben.
    = Ann places the {a} in {a.home}, and Ben places the {b} in {b.home}.
    = According to the visitors, the home of the {a} is {a.home}, and the home of the {b} is {b.home}.
    ? And what does each of these two animals eat?
    = Of these two, the {a} eats {a.food}, while the {b} eats {b.food}.
    = The food of the {a} is {a.food}, and the food of the {b} is {b.food}.

    ? From this shopping list, find out which animal is to get which food.
    | Shopping list of a zoo. Monday: for the {a}, {a.food}. Tuesday: for the {b}, {b.food}.
    = On the list, the {a} gets {a.food}, and the {b} gets {b.food}.
    = The zoo feeds the {a} with {a.food} and the {b} with {b.food}.
    ? And what colour are the two of them?
    = Of the two, the {a} is {a.colour}, and the {b} is {b.colour}.
    = The fur of the {a} is {a.colour}, while the fur of the {b} is {b.colour}.

    # extraction: place
    ? Pick out the place and its weather from this letter.
    | Dear Mother, at last we have reached {p}. Everyone told us to expect {p.weather}, and so it is. With love, Eve
    = The place is {p}, and the weather there is {p.weather}.
    = Eve writes from {p}, where the weather is {p.weather}.
    ? Which animals might the writer meet there?
    = In {p}, the writer might meet the {a} and the {b}.
    = The {a} and the {b} live in {p}, so Eve might meet them.

    # reasoning: two_steps
    ? I want to visit the {a} and wonder what to pack. Which weather awaits me at its home, and how do you know?
    = Pack for {a.home.weather}, because the {a} lives in {a.home}, and the weather in {a.home} is
      {a.home.weather}.
    = The {a} lives in {a.home}. This place is known for its {a.home.weather}, so {a.home.weather} awaits you.
    ? Could I bathe in the sea there as well?
    = {a.home.sea[yes]}, because the home of the {a} is {a.home}, and {a.home} {a.home.sea}.
    = {a.home.sea[yes]}. You would be in {a.home}, where the {a} lives, and this place {a.home.sea}.

    ? A tailor wants to know what weather a keeper of the {a} has to dress for. Explain your reasoning.
    = The {a} lives in {a.home}, where the weather is {a.home.weather}. So the keeper has to dress for
      {a.home.weather}.
    = Since the home of the {a} is {a.home}, and {a.home} is known for its {a.home.weather}, the keeper dresses for
      {a.home.weather}.
    ? The keeper of which other animal needs the same coat?
    = The keeper of the {b}, because the {b} lives in {a.home} too.
    = The {a} and the {b} share {a.home} as their home, so the keeper of the {b} needs it.

    ? Someone claims to have heard waves outside the den of the {a}. Is that possible? Argue from where it lives.
    = {a.home.sea[yes]}. The den of the {a} is in {a.home}, and {a.home} {a.home.sea}.
    = {a.home.sea[yes]}, since the {a} lives in {a.home}, a place that {a.home.sea}.
    ? And what weather does this den stand in?
    = The den of the {a} stands in {a.home.weather}, the weather of {a.home}.
    = The den is in {a.home}, which is known for its {a.home.weather}, so it stands in {a.home.weather}.

    # reasoning: fellows
    ? Suppose that the {a} shared its lunch with an animal of the same taste. Whom would it invite, and why?
    = It would invite the {b}, because the {a} and the {b} both eat {a.food}.
    = The guest would be the {b}: the {a} lives on {a.food}, and so does the {b}.
    ? Would the guest have a way to travel, or do the two live side by side?
    = The guest would travel, because the {a} lives in {a.home} and the {b} lives in {b.home}.
    = They do not live side by side: the home of the {a} is {a.home}, and that of the {b} is {b.home}.

    # reasoning: pair
    ? It is claimed that the {a} and the {b} grew up next door to each other. Check the claim.
    = The claim is wrong. The {a} lives in {a.home}, but the {b} lives in {b.home}.
    = This cannot be true: the home of the {a} is {a.home}, while the home of the {b} is {b.home}.
    ? Might the two at least quarrel over a meal?
    = No, because the {a} eats {a.food} and the {b} eats {b.food}.
    = They would not quarrel, since the {a} feeds on {a.food}, but the {b} feeds on {b.food}.

    # math: four
    ? Here are four animals: the {a}, the {b}, the {c} and the {d}. Give the number of those that {all}, and name
      them.
    = The number is {those.number}: of the four, {those} {those.does}.
    = Among the four animals, {those.number} {those.does}, namely {those}.
    ? What number is left, and which ones?
    = That leaves {others.number} of the four, namely {others}.
    = Four minus {those.number} is {others.number}, which means {others}.

    # math: three
    ? In a show, animals that {all} cost 2 coins each, and all others are free. What is the price to see the {a},
      the {b} and the {c}?
    = Of the three, {those.number} {those.does}, namely {those}, so the price is {at_2} coins.
    = The price is {at_2} coins, because only {those} {those.does}, and each costs 2 coins.
    ? And what is the price if each of these costs 5 coins?
    = At 5 coins each, the price for {those.number} of them is {at_5} coins.
    = The price is {at_5} coins, since {those.number} times 5 is {at_5}.

    # math: cubs
    ? On a farm live {m} young ones of the {a} and {n} young ones of the {b}. Find out how many of the young ones
      {all}.
    = The {a} {of_a} and the {b} {of_b}, so the answer is {having}.
    = The answer is {having} out of {sum}, because the {a} {of_a}, while the {b} {of_b}.
    ? Then 3 more of each kind are born. What is the answer now?
    = The answer is now {having_3}, because {having} plus 3 is {having_3}.
    = With 3 more, {having} becomes {having_3}, so the answer is {having_3}.

    # math: places
    ? Of the places {p}, {q} and {r}, give the number that {all}, and name them.
    = The number is {those.number}: of the three places, {those} {those.does}.
    = Among the three places, {those.number} {those.does}, namely {those}.
    ? Two kinds of animals live in each place. How many kinds live in what is left of the three?
    = What is left is {others}, and 2 times {others.number} makes {others_2} kinds.
    = In {others} there are {others_2} kinds, two for each place.

    # math: food
    ? Some animals live on {a.food}. What are they, and what is their number?
    = Their number is two, because only the {a} and the {b} eat {a.food}.
    = The {a} and the {b} live on {a.food}, and that makes two.
    ? Each of them gets {m} portions. What number of portions is that altogether?
    = Altogether that is {twice_m} portions, because 2 times {m} is {twice_m}.
    = The {a} gets {m} and the {b} gets {m}, which makes {twice_m} portions altogether.

    # coding: animal
    ? Represent the {a} as a Python object with "place", "diet" and "fur".
    = {a} = {{"place": "{a.home}", "diet": "{a.food}", "fur": "{a.colour}"}}
    = {a} = dict(place="{a.home}", diet="{a.food}", fur="{a.colour}")
    ? Continue with the line that prints the diet, and show its result as a comment.
    = print({a}["diet"])  # {a.food}
    = The line print({a}["diet"]) prints {a.food}.

    ? Encode in JSON whether the {a} swims, whether it is up at night and whether it bears horns.
    = {{"animal": "{a}", "swims": {a.swim[json]}, "night": {a.night[json]}, "horns": {a.horns[json]}}}
    = {{"{a}": {{"swims": {a.swim[json]}, "night": {a.night[json]}, "horns": {a.horns[json]}}}}}
    ? Now express this JSON in plain English.
    = In plain English, the {a} {a.swim}, {a.night} and {a.horns}.
    = It says that the {a} {a.swim[also]}, {a.night[also]} and {a.horns[also]}.

    ? Supply an SQL statement that inserts the {a} into a table of animals with name, home and food.
    = INSERT INTO animals (name, home, food) VALUES ('{a}', '{a.home}', '{a.food}');
    = INSERT INTO animals SELECT '{a}' AS name, '{a.home}' AS home, '{a.food}' AS food;
    ? Next, give a query that finds its food there, and tell what comes back.
    = SELECT food FROM animals WHERE name = '{a}'; gives back {a.food}.
    = With SELECT food FROM animals WHERE name = '{a}'; the answer is {a.food}.

    # coding: pair
    ? Build a Python list of pairs, each an animal and its home, for the {a} and the {b}.
    = homes = [("{a}", "{a.home}"), ("{b}", "{b.home}")]
    = pairs = list({{"{a}": "{a.home}", "{b}": "{b.home}"}}.items())
    ? Make it triples by adding the food.
    = homes = [("{a}", "{a.home}", "{a.food}"), ("{b}", "{b.home}", "{b.food}")]
    = triples = [tuple("{a} {a.home} {a.food}".split()), tuple("{b} {b.home} {b.food}".split())]

    # coding: place
    ? Mark up {p} in XML, with its weather and both of its animals.
    = <place name="{p}"><weather>{p.weather}</weather><animal>{a}</animal><animal>{b}</animal></place>
    = <{p} weather="{p.weather}"><animals>{a}, {b}</animals></{p}>
    ? Convert this to JSON.
    = {{"place": "{p}", "weather": "{p.weather}", "animals": ["{a}", "{b}"]}}
    = {{"{p}": {{"weather": "{p.weather}", "animals": ["{a}", "{b}"]}}}}

    # stem: animal
    ? From the view of a biologist, class the {a} by what it eats and by the hours that it keeps.
    = The {a} eats {a.food}, so it is {a.eater}, and it is {a.night[kind]}, because it {a.night}.
    = With its diet of {a.food}, the {a} is {a.eater}. It is also {a.night[kind]}, as it {a.night[also]}.
    ? Does it bear anything on its head for its defence?
    = {a.horns[yes]}, the {a} {a.horns} for its defence.
    = {a.horns[yes]}. A biologist calls the {a} {a.horns[kind]}, as it {a.horns[also]}.

    ? Could the {a} cross a wide river? Base your answer on how it moves.
    = {a.swim[yes]}. The {a} {a.swim}, for it moves {a.swim[kind]}.
    = {a.swim[yes]}, since the {a} moves {a.swim[kind]} and {a.swim[also]}.
    ? On the other bank grows and crawls all that animals eat. What would the {a} take, and what sort of eater does
      this show?
    = The {a} would take {a.food}, which shows that it is {a.eater}.
    = As the {a} feeds on {a.food}, it would take this: it is {a.eater}.

    ? A camera trap is to photograph the {a}. Should it run by day or by night, and in which place?
    = The trap should run {a.night[when]} in {a.home}, because the {a} {a.night} and lives in {a.home}.
    = Set it up in {a.home} and let it run {a.night[when]}, since the {a} {a.night[also]}.
    ? What bait would draw it, and what sort of eater does that make it?
    = Use {a.food} as bait, because the {a} eats {a.food}, which makes it {a.eater}.
    = The best bait is {a.food}, and an animal that takes this is {a.eater}.

    ? Fill in a species card of the {a}: diet, movement, active time and head.
    = Diet: {a.food}. Movement: {a.swim[kind]}. Active time: {a.night[kind]}. Head: {a.horns[kind]}.
    = The {a} eats {a.food}, moves {a.swim[kind]}, is {a.night[kind]} and has a head that is {a.horns[kind]}.
    ? The card still lacks fur and habitat. What should it say?
    = It should say that the {a} has {a.colour} fur and lives in {a.home}.
    = Fur: {a.colour}. Habitat: {a.home}. Both hold for every {a}.

    # stem: pair
    ? Compare the diets of the {a} and the {b} in ecological terms.
    = The {a} eats {a.food} and is {a.eater}, while the {b} eats {b.food} and is {b.eater}.
    = The {a} feeds on {a.food}, which makes it {a.eater}. The {b} feeds on {b.food}, which makes it {b.eater}.
    ? Do their habitats overlap?
    = No, their habitats are apart: the {a} lives in {a.home}, and the {b} lives in {b.home}.
    = They do not overlap, because the {a} is found in {a.home}, but the {b} is found in {b.home}.

    # humanities: place
    ? As a historian, what would you note about the flag of {p} and its meaning?
    = The flag of {p} is {p.colours}. It stands for the fur of the {a} and the {b}, the animals of {p}.
    = {p} has a flag of {p.colours}, and these colours mean the fur of its animals, the {a} and the {b}.
    ? And which dishes belong to its feast?
    = The feast of {p} offers {p.foods}, because the {a} and the {b} live there.
    = At its feast, {p} offers {p.foods} in honour of the {a} and the {b}.

    ? Which theme do the folk songs of {p} have, and where does it come from?
    = The folk songs of {p} are about {p.weather}, because the weather there is {p.weather}.
    = Their theme is {p.weather}, and it comes from the weather in {p}.
    ? On market day they are sung among the stalls. Where is that?
    = The stalls of {p} stand {p.sea[market]}, because {p} {p.sea}.
    = As {p} {p.sea}, they are sung {p.sea[market]}, where its market is.

    ? Portray the culture of {p} for a travel guide: its music, its market and its banner.
    = In {p}, the music is about {p.weather}, the market is {p.sea[market]}, and the banner is {p.colours}.
    = Travellers to {p} hear songs about {p.weather}, find the market {p.sea[market]} and see a banner of
      {p.colours}.
    ? Whose fur gave the banner its look?
    = The colours of the banner come from the {a} and the {b}, which live in {p}.
    = It was the fur of the animals of {p}, the {a} and the {b}.

    # humanities: animal
    ? What part does the {a} play in human customs? Mention the people and their flag.
    = The people of {a.home} honour the {a}, and their flag bears its colour, {a.colour}.
    = In {a.home}, people hold the {a} in honour and put {a.colour}, the colour of its fur, on their flag.
    ? And what do these people offer to it at their feast?
    = At their feast, the people of {a.home} offer {a.food}, because the {a} eats {a.food}.
    = They offer {a.food} to the {a}, because this is what it eats.

    # humanities: two_places
    ? Contrast the life of people in {p} with that of people in {q}: where do they trade, and what do they sing
      about?
    = In {p}, people trade {p.sea[market]} and sing about {p.weather}. In {q}, people trade {q.sea[market]} and sing
      about {q.weather}.
    = The market of {p} is {p.sea[market]} and its song is about {p.weather}, while the market of {q} is
      {q.sea[market]} and its song is about {q.weather}.
    ? Which of the two would a sailor prefer, and why?
    = A sailor would prefer {coast}, because {coast} lies by the sea.
    = The choice would be {coast}, since its market is at the harbour.
""")

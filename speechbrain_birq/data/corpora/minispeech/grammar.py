"""The sentences of minispeech: a small context-free grammar of everyday English.

Each rule lists its alternatives between bars; ``{name}`` stands for a rule. The
verbs are past tense or bare infinitives, so that no alternative needs agreement.
"""

import random
import re

MIN_WORDS, MAX_WORDS = 3, 12

_RULES = {
    "sentence": "{statement}.|{statement}.|{statement}.|{opening}.|{order}.|"
    "{question}?|{question}?|{comparison}.|{count}.|{weather}.|{speech}.|{plan}.",
    "statement": "{np} {vt} {object} {where}|{np} {vt} {object} {when}|"
    "{np} {vt} {object} {where} {when}|{np} {vi} {where}|{np} {adv} {vt} {object}|"
    "{np} {vi} {adv} {when}|{np} and {np} {vi} {where}|{pronoun} {vt} {object}|"
    "{pronoun} {vi} {where} because {pronoun} felt {mood}|"
    "{np} gave {obj_pronoun} {object}|{np} who {vi} {where} {vt} {object}|"
    "{np} didn't {verb} {object}",
    "opening": "{when}, {np} {vt} {object}|{where}, {pronoun} {vt} {object}|"
    "when the {sky} came, {np} {vi} {where}|after {meal}, {pronoun} {vi} {where}|"
    "if you {verb} {object}, {pronoun} will be {mood}",
    "order": "please {verb} {object} {later}|{verb} {object} and {verb} {object}|"
    "don't {verb} {object}|never {verb} {object} {where}|go to the {place} {later}|"
    "let us {verb} {object} {later}|{verb} {object} {adv}, please",
    "question": "did {np} {verb} {object}|where did {pronoun} {verb} {object}|"
    "why did {np} {verb} {object} {when}|who {vt} {object} {where}|"
    "can you {verb} {object} for {obj_pronoun}|have you seen {object}|"
    "when will {np} come to the {place}|how many {things} did {pronoun} {verb}|"
    "is the {place} {more} than the {place}|would {pronoun} like some {food}|"
    "what did {np} {verb} {where}",
    "comparison": "the {thing} is {more} than the {thing}|"
    "this {thing} was {more} than {possessive} {thing}|"
    "{np} is as {mood} as {np}|the {animal} ran {more_adv} than the {animal}|"
    "nothing is {more} than {food} {meal_time}",
    "count": "{pronoun} {vt} {number} {things} {when}|"
    "there were {number} {things} {where}|"
    "{number} {things} and {number} {things} are enough|"
    "{number} {colour} {things} stood {where}|"
    "it cost {number} pounds and {number} pence|{np} lived {number} years {where}",
    "weather": "the {sky} was {sky_mood} {when}|there will be {sky} {later}|"
    "the {sky} {sky_verb} over the {place}|it's {sky_mood} {where} {season_time}",
    "speech": "{pronoun} said that {np} was {mood}|"
    "{np} told {obj_pronoun} about {object}|"
    "{pronoun} thought the {thing} was {adj}|i know that {pronoun} {vt} {object}|"
    "everybody heard the {animal} {where}",
    "plan": "{pronoun} will {verb} {object} {later}|"
    "{np} wanted to {verb} {object}|{pronoun} couldn't {verb} {object} {where}|"
    "we should {verb} {object} before {meal}|{np} tried to {verb} {some}|"
    "they'll {verb} some {food} for {meal}",
    "np": "the {person}|the {adj} {person}|{possessive} {person}|the {animal}|"
    "a {adj} {animal}|a {person}",
    "object": "the {thing}|a {thing}|a {adj} {thing}|the {colour} {thing}|"
    "{possessive} {thing}|{some}|the {person}'s {thing}",
    "some": "some {food}|some {things}|the {things}|{number} {things}",
    "where": "in the {place}|near the {place}|behind the {place}|at the {place}|"
    "by the {thing}|under the {thing}|beside the {colour} {thing}",
    "pronoun": "he|she|they|we|i|you",
    "obj_pronoun": "him|her|them|us|me",
    "possessive": "his|her|their|our|my|your",
    "person": "man|woman|boy|girl|teacher|doctor|farmer|baker|sailor|uncle|aunt|"
    "brother|sister|friend|child|king|queen|nurse|painter|driver|captain|"
    "grandfather|grandmother|student|singer|judge|thief|soldier|prince|guest",
    "animal": "dog|cat|horse|bird|fish|mouse|sheep|goat|rabbit|fox|bear|cow|frog|"
    "lion|elephant|duck",
    "thing": "book|table|chair|window|door|box|letter|picture|cup|bottle|basket|"
    "clock|lamp|key|knife|map|coat|hat|shoe|ring|drum|bell|boat|wheel|ladder|rope|"
    "stone|piano|camera|bicycle|umbrella|engine|mirror|pencil|blanket|treasure",
    "things": "books|boxes|letters|apples|horses|ships|coins|stones|flowers|"
    "children|chairs|eggs|oranges|trees|leaves|gloves|keys|pictures|toys|potatoes",
    "food": "bread|cheese|milk|soup|rice|honey|sugar|butter|cake|salt|coffee|juice|"
    "water|fruit|chocolate",
    "meal": "breakfast|lunch|dinner|supper|school|work",
    "place": "garden|kitchen|market|church|station|river|bridge|forest|village|"
    "city|island|mountain|beach|hospital|library|street|valley|castle|"
    "office|field|museum|tower",
    "adj": "old|young|little|big|quiet|strange|bright|dark|heavy|clean|broken|"
    "empty|beautiful|clever|gentle|{colour}|thick|thin|famous|cheap|smooth|wild|"
    "ugly|ancient",
    "colour": "yellow|red|blue|green|white|black|brown|grey|purple|golden",
    "mood": "happy|tired|angry|hungry|thirsty|busy|ready|afraid|lonely|proud|sick|"
    "careful|right|wrong|free|lucky",
    "more": "older|younger|bigger|smaller|faster|slower|stronger|heavier|cheaper|"
    "quieter|warmer|taller|better|worse|more beautiful|less useful",
    "more_adv": "faster|further|longer|more slowly|more quietly",
    "sky": "rain|snow|wind|sun|storm|thunder|fog|frost",
    "sky_mood": "cold|warm|terrible|beautiful|wonderful|mild",
    "sky_verb": "passed|stayed|moved|vanished|grew",
    "vt": "found|bought|sold|carried|lost|dropped|moved|painted|broke|cleaned|hid|"
    "borrowed|kept|saw|took|brought|washed|chose|pushed|pulled|watched|fixed|"
    "threw|caught|measured|forgot|loved|gave away|looked for|asked for",
    "verb": "find|buy|sell|carry|lose|drop|move|paint|break|clean|hide|borrow|keep|"
    "see|take|bring|wash|choose|push|pull|watch|fix|throw|catch|measure|forget|"
    "help|look for|ask for",
    "vi": "slept|laughed|walked|ran|waited|worked|sang|danced|cried|smiled|stood|"
    "swam|played|arrived|fell|spoke|whispered|shouted|jumped|vanished",
    "adv": "slowly|quickly|quietly|carefully|never|always|often|again|suddenly|"
    "gladly|barely|finally",
    "when": "yesterday|this morning|last night|last {season}|{number} days ago|"
    "all day|every evening|on {day}|at {hour} o'clock|{season_time}|{meal_time}",
    "later": "today|tomorrow|next week|next {season}|on {day}|at {hour} o'clock|"
    "at noon|at midnight|{season_time}|{meal_time}",
    "meal_time": "before {meal}|after {meal}",
    "season_time": "in the {season}|in {month}",
    "month": "january|march|april|june|july|august|october|december",
    "day": "monday|tuesday|wednesday|thursday|friday|saturday|sunday",
    "season": "spring|summer|autumn|winter",
    "hour": "two|three|four|five|six|seven|eight|nine|ten|eleven",
    "number": "{hour}|twelve|thirteen|fifteen|twenty|thirty|"
    "forty {unit}|fifty|sixty {unit}|ninety|a hundred",
    "unit": "two|three|five|six|seven|eight|nine",
}
_ALTERNATIVES = {rule: text.split("|") for rule, text in _RULES.items()}
_SLOT = re.compile(r"\{(\w+)\}")


def _expand(rng, rule):
    """Draw one alternative of a rule and expand the rules that it names."""
    chosen = rng.choice(_ALTERNATIVES[rule])
    return _SLOT.sub(lambda slot: _expand(rng, slot[1]), chosen)


def sentence(rng: random.Random) -> str:
    """Draw one sentence, with the punctuation that its intonation needs.

    Arguments
    ---------
    rng : random.Random
        The source of every choice.

    Returns
    -------
    text : str
        Lower-case words, a final full stop or question mark, commas at pauses.

    Example
    -------
    >>> text = sentence(random.Random(0))
    >>> MIN_WORDS <= len(text.split()) <= MAX_WORDS
    True
    """
    while True:
        text = re.sub(r"\ba (?=[aeiou])", "an ", _expand(rng, "sentence"))
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            return text


def transcript(text: str) -> str:
    """Write a sentence the way LibriSpeech does: capitals and apostrophes only.

    Arguments
    ---------
    text : str
        A sentence with its punctuation.

    Returns
    -------
    words : str
        The same words in capitals.

    Example
    -------
    >>> transcript("after lunch, don't sing.")
    "AFTER LUNCH DON'T SING"
    """
    return re.sub(r"[^A-Z' ]", "", text.upper())


def vocabulary() -> set:
    """List every word that the grammar can say, possessives included.

    Returns
    -------
    words : set of str
        The words, in capitals.

    Example
    -------
    >>> 300 <= len(vocabulary()) <= 500
    True
    """
    bare = _SLOT.sub("", " ".join(_RULES.values()).replace("|", " "))
    owners = {transcript(person) + "'S" for person in _ALTERNATIVES["person"]}
    return set(transcript(bare).split()) - {"'S"} | {"AN"} | owners

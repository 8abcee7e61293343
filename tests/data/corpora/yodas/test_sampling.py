"""The draw: seeded, within its hours, videos of dev apart, saved before any audio."""

import pytest
from local_hub import utterances

from speechbrain_birq.data.corpora.yodas.hub import RemoteFile
from speechbrain_birq.data.corpora.yodas.sampling import (
    Archive,
    draw,
    find_archives,
    read_durations,
    read_table,
    video,
)
from speechbrain_birq.errors import BadInput

RULES = dict(seed=0, hours=0.01, dev_hours=0.003, min_seconds=0.5, max_seconds=30)


def archive(name):
    language, number = name.split("/")
    return Archive(
        name,
        *(
            RemoteFile(f"data/{language}/{part}/{number}.x", 10, 64 * "a")
            for part in ("audio", "text", "duration")
        ),
    )


DURATIONS = {
    f"en00{i}/{j:08d}": {
        name: seconds
        for v in range(5)
        for name, seconds in utterances(f"{i}{j}video{v}", 4, 0.4 + v).items()
    }
    for i in range(2)
    for j in range(3)
}
ARCHIVES = [archive(name) for name in DURATIONS]


def drawn(**changes):
    return list(
        draw(ARCHIVES, lambda archive: DURATIONS[archive.name], **(RULES | changes))
    )


def seconds(rows, split):
    return sum(row.seconds for row in rows if row.split == split)


def test_the_same_seed_draws_the_same_and_another_another():
    first, again = drawn(), drawn()
    assert first == again
    assert {row.ID for row in drawn()} != {row.ID for row in drawn(seed=1)}


def test_the_seed_changes_the_videos_of_an_archive_too():
    def one(seed):
        archive = ARCHIVES[0]
        rules = RULES | {"seed": seed, "hours": 0.003, "dev_hours": 0}
        return {row.ID for row in draw([archive], lambda a: DURATIONS[a.name], **rules)}

    assert len({frozenset(one(seed)) for seed in range(5)}) > 1


def test_the_draw_does_not_depend_on_the_order_of_the_listing():
    rows = draw(ARCHIVES[::-1], lambda archive: DURATIONS[archive.name], **RULES)
    assert list(rows) == drawn()


@pytest.mark.parametrize("seed", range(5))
def test_hours_are_overshot_by_less_than_an_utterance(seed):
    rows = drawn(seed=seed)
    for split, hours in (("train", 0.01), ("dev", 0.003)):
        last = [row for row in rows if row.split == split][-1]
        assert 0 <= seconds(rows, split) - hours * 3600 < last.seconds


@pytest.mark.parametrize("seed", range(5))
def test_no_video_is_in_both_splits_and_no_utterance_twice(seed):
    rows = drawn(seed=seed)
    videos = {s: {video(r.ID) for r in rows if r.split == s} for s in ("dev", "train")}
    assert videos["dev"] and not videos["dev"] & videos["train"]
    assert len({row.ID for row in rows}) == len(rows)


def test_a_video_of_dev_that_goes_on_in_another_archive_is_not_trained_on():
    names = {f"en000/{n}": {f"vid-{n}-0-1": 5.0, f"v{n}-0-0-1": 5.0} for n in range(9)}
    rows = draw(
        [archive(name) for name in names],
        lambda archive: names[archive.name],
        **(RULES | {"hours": 40 / 3600, "dev_hours": 8 / 3600}),
    )
    rows = list(rows)  # both videos of the first archive are dev's
    assert {video(r.ID) for r in rows if r.split == "dev"} >= {"vid"}
    assert "vid" not in {video(r.ID) for r in rows if r.split == "train"}


def test_too_short_and_too_long_utterances_are_left_out():
    rows = drawn(min_seconds=1.42, max_seconds=3.47)
    lengths = {round(row.seconds, 2) for row in rows}
    assert lengths == {1.45, 1.5, 1.55, 2.4, 2.45, 2.5, 2.55, 3.4, 3.45}


def test_only_as_many_archives_as_needed_are_asked_for_durations():
    asked = []
    rules = RULES | {"hours": 0.001, "dev_hours": 0.001}
    list(draw(ARCHIVES, lambda a: asked.append(a) or DURATIONS[a.name], **rules))
    assert len(asked) == 1


def test_without_dev_hours_all_is_train():
    assert {row.split for row in drawn(dev_hours=0)} == {"train"}


def test_more_hours_than_there_are_is_one_sentence():
    lengths = [s for names in DURATIONS.values() for s in names.values() if s >= 0.5]
    with pytest.raises(BadInput, match=f"hold {sum(lengths) / 3600:.4g} h.*not 7 h"):
        drawn(hours=7, dev_hours=0)


@pytest.fixture
def table(tmp_path):
    """table(text): the path of a file."""

    def write(text):
        path = tmp_path / "table.txt"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "a-0-0-1 1.5\nb-0-0-1 2\n",
        "a-0-0-1\t1.5\r\n\r\n  b-0-0-1\t2  ",
        "a-0-0-1,1.5\n\nb-0-0-1 , 2\n",
        "utt_id duration\na-0-0-1 1.5\nb-0-0-1 2\n",
        "\ufeffutt_id,duration\na-0-0-1,1.5\nb-0-0-1,2\n",
    ],
)
def test_durations_are_read_however_they_are_separated(table, text):
    assert read_durations(table(text), "x") == {"a-0-0-1": 1.5, "b-0-0-1": 2.0}


@pytest.mark.parametrize(
    "text, words",
    [
        ("a-0-0-1 1.5\nb-0-0-1 long\n", "x: 'long' of b-0-0-1 is no number"),
        ("a-0-0-1 1.5\nb-0-0-1\n", "x: '' of b-0-0-1 is no number"),
        ("../../evil 1.5\n", "x: '../../evil' is no <video>"),
        ("a.b/c-0-0-1 1.5\n", "is no <video>"),
        ("a 1.5\n", "is no <video>"),
        (b"\x1f\x8b\xff\xfe", "is no text"),
    ],
)
def test_what_are_no_durations_is_one_sentence(table, text, words):
    with pytest.raises(BadInput, match=words):
        read_durations(table(text), "x")


def test_a_text_keeps_its_commas_and_spaces(table):
    path = table("a-0-0-1 Well, yes  no\nb-0-0-1\n")
    assert read_table(path) == {"a-0-0-1": "Well, yes  no", "b-0-0-1": ""}


class Listing:
    """A dataset of which only the listing is known."""

    repo = "espnet/yodas"

    def __init__(self, *paths):
        self.paths = paths

    def folders(self, folder):
        return sorted({path.split("/")[1] for path in self.paths})

    def files(self, folder):
        under = [p for p in self.paths if p.startswith(f"{folder}/")]
        return {path: RemoteFile(path, 1, "") for path in under}


def paths(language, number="00000000"):
    return [
        f"data/{language}/audio/{number}.tar.gz",
        f"data/{language}/text/{number}.txt",
        f"data/{language}/duration/{number}.txt",
    ]


def test_all_english_folders_are_taken_unless_some_are_named():
    listing = Listing(*paths("en000"), *paths("en127"), *paths("de000"), *paths("enm"))
    names = [archive.name for archive in find_archives(listing)]
    assert names == ["en000/00000000", "en127/00000000"]
    named = find_archives(listing, ["de000", "de000"])
    assert [archive.name for archive in named] == ["de000/00000000"]


@pytest.mark.parametrize("lacks", ["text", "duration"])
def test_an_archive_without_an_annotation_file_is_one_sentence(lacks):
    there = [path for path in paths("en000") if f"/{lacks}/" not in path]
    with pytest.raises(
        BadInput, match=rf"has data/en000/audio/.* no data/en000/{lacks}"
    ):
        find_archives(Listing(*there))


def test_no_archives_at_all_is_one_sentence():
    with pytest.raises(BadInput, match="has no archives"):
        find_archives(Listing("data/readme/x"))


def test_a_language_that_leads_out_is_refused():
    with pytest.raises(BadInput, match="is no folder of"):
        find_archives(Listing(), ["../secret"])

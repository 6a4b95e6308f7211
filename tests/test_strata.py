"""Strata and quotas: what a bank offers, in equal or stated shares, exact over a grid and exact on average."""

import random
from collections import Counter
from pathlib import Path

import pytest

from facesyn.banks import BankPicture, choose
from facesyn.errors import UsageError
from facesyn.stages.transfers import redraw_reference
from facesyn.strata import Quotas, draw, stratify

LIGHTS = ("soft", "hard", "rim")


def picture(number: int) -> BankPicture:
    light = {"name": LIGHTS[number % 3], "directions": [[0, 1]]}
    labels = {"yaw": 31.0 * (number % 4) - 31, "light": light, "gender": ("female", "male")[number // 12 % 2]}
    return BankPicture(f"{number}.png", Path(f"{number}.png"), labels)


BANK = [picture(number) for number in range(36)]


def test_a_bank_is_cut_by_its_labels() -> None:
    strata = stratify(BANK, ["pose", "light"], {})
    assert len(strata) == 12 and {len(stratum.pictures) for stratum in strata} == {3}
    assert sorted({stratum.categories[0] for stratum in strata}) == ["+0", "+30", "+60", "-30"]
    assert all(p.labels["light"]["name"] == stratum.categories[1] for stratum in strata for p in stratum.pictures)


@pytest.mark.parametrize("count", [12, 24, 60])
def test_everybody_gets_every_combination_as_often(count: int) -> None:
    strata = stratify(BANK, ["pose", "light"], {})
    for seed in range(20):
        drawn = draw(strata, count, "female", random.Random(seed))
        cells = Counter((p.labels["yaw"], p.labels["light"]["name"]) for p in drawn)
        assert len(cells) == 12 and set(cells.values()) == {count // 12}
        assert drawn[0].labels["gender"] == "female"  # there is one in every stratum


def test_quotas_are_kept_by_each_draw_and_on_average() -> None:
    strata = stratify(BANK, ["light"], {"light": {"soft": 2, "rim": 0.5}})
    exact = {"soft": 5 * 2 / 3.5, "hard": 5 / 3.5, "rim": 5 * 0.5 / 3.5}
    total: Counter[str] = Counter()
    for seed in range(700):
        drawn = Counter(p.labels["light"]["name"] for p in draw(strata, 5, "male", random.Random(seed)))
        assert drawn.total() == 5 and all(abs(drawn[name] - share) < 1 for name, share in exact.items())
        total += drawn
    assert all(abs(total[name] / 700 - share) < 0.06 for name, share in exact.items())  # three deviations


def test_a_quota_of_nothing_leaves_a_category_out() -> None:
    assert {s.categories for s in stratify(BANK, ["light"], {"light": {"rim": 0}})} == {("hard",), ("soft",)}


def test_no_one_is_dressed_as_another_gender_for_the_sake_of_a_stratum() -> None:
    bank = [p for p in BANK if p.labels["gender"] == "male" or p.labels["light"]["name"] != "rim"]
    strata = stratify(bank, ["light"], {})
    women = [draw(strata, 4, "female", random.Random(seed)) for seed in range(9)]
    assert all(p.labels["gender"] == "female" for drawn in women for p in drawn)
    assert {p.labels["light"]["name"] for p in draw(strata, 3, "male", random.Random(0))} == set(LIGHTS)
    assert len(draw(strata, 3, "unlabelled", random.Random(0))) == 3


def test_without_strata_nothing_changes() -> None:
    for seed in range(5):
        plain = choose(BANK, 50, "male", random.Random(seed))
        assert draw(stratify(BANK, [], {}), 50, "male", random.Random(seed)) == plain


@pytest.mark.parametrize(
    ("labels", "quotas", "said"),
    [
        (["lihgt"], {}, "what its 'lihgt' is"),
        (["yaw"], {}, "is no word"),
        (["light"], {"pose": {"+0": 1.0}}, "none of the strata"),
        (["light"], {"light": {"sfot": 1.0}}, "which the bank does not have"),
        (["light"], {"light": {"soft": -1.0}}, "0 or more"),
        (["light"], {"light": dict.fromkeys(LIGHTS, 0.0)}, "nothing of the bank"),
    ],
)
def test_what_the_bank_does_not_have_is_named(labels: list[str], quotas: Quotas, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        stratify(BANK, labels, quotas)


def test_a_redrawn_reference_is_another_of_the_same_stratum_and_gender() -> None:
    stratum = next(s for s in stratify(BANK, ["pose"], {}) if s.categories == ("+0",))
    planned = [picture.name for picture in stratum.pictures if picture.labels["gender"] == "male"][:1]
    drawn = {redraw_reference(1, "a", 0, attempt, "male", planned, stratum).name for attempt in range(1, 20)}
    assert len(drawn) > 1 and not drawn & set(planned)
    males = {picture.name for picture in stratum.pictures if picture.labels["gender"] == "male"}
    assert drawn <= males

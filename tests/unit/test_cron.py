"""When an expression fires: checked against the calendar, above all on the two days on which the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from loadbench import cron
from loadbench.errors import InvalidInput

BERLIN = "Europe/Berlin"


def ms(*parts: int) -> int:
    """Unix milliseconds of a moment in UTC."""
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


def local(expression: str, after: int, count: int, zone: str = BERLIN) -> list[str]:
    moments = cron.upcoming(expression, zone, after, count)
    return [f"{datetime.fromtimestamp(moment / 1000, ZoneInfo(zone)):%d %H:%M%z}" for moment in moments]


class TestInSpring:
    """On 2027-03-28 in Berlin 01:59 +0100 is followed by 03:00 +0200."""

    def test_a_time_that_is_skipped_moves_to_the_first_minute_after_the_gap(self):
        found = local("30 2 * * *", ms(2027, 3, 26, 12), 3)
        assert found == ["27 02:30+0100", "28 03:00+0200", "29 02:30+0200"]

    def test_several_in_the_gap_become_one(self):
        found = local("0,30 2 * * *", ms(2027, 3, 28, 0), 3)
        assert found == ["28 03:00+0200", "29 02:00+0200", "29 02:30+0200"]

    def test_every_half_hour_goes_on_in_real_time(self):
        found = cron.upcoming("*/30 * * * *", BERLIN, ms(2027, 3, 28, 0, 10), 5)
        assert [later - earlier for earlier, later in pairwise(found)] == [1_800_000] * 4


class TestInAutumn:
    """On 2026-10-25 in Berlin 02:59 +0200 is followed by 02:00 +0100."""

    def test_a_time_that_comes_twice_fires_once(self):
        found = local("30 2 * * *", ms(2026, 10, 24, 12), 2)
        assert found == ["25 02:30+0200", "26 02:30+0100"]

    @pytest.mark.parametrize("minute", range(0, 60, 7))
    def test_nor_does_it_go_back_when_asked_within_that_hour(self, minute):
        after = ms(2026, 10, 25, 1, minute)  # 02:xx for the second time
        assert local("30 2 * * *", after, 2) == ["26 02:30+0100", "27 02:30+0100"]

    def test_every_hour_fires_in_both(self):
        found = local("30 * * * *", ms(2026, 10, 24, 23, 10), 4)
        assert found == ["25 01:30+0200", "25 02:30+0200", "25 02:30+0100", "25 03:30+0100"]


@pytest.mark.parametrize("expression", ["30 2 * * *", "0,30 2,3 * * *", "*/7 * * * *", "15 */2 * * *", "0 2 * * 1-5"])
@pytest.mark.parametrize("day", [datetime(2027, 3, 27, tzinfo=UTC), datetime(2026, 10, 24, tzinfo=UTC)])
def test_asking_from_each_firing_anew_gives_the_same_as_going_on(expression, day):
    start = int(day.timestamp() * 1000)
    going_on = cron.upcoming(expression, BERLIN, start, 30)
    asked, after = [], start
    while len(asked) < 30:
        after = cron.next_ms(expression, BERLIN, after)
        asked.append(after)
    assert asked == going_on == sorted(set(going_on))


def test_the_whole_year_of_a_nightly_schedule_has_each_day_once():
    start = datetime(2026, 12, 31, 12, tzinfo=UTC)
    found = cron.upcoming("30 2 * * *", BERLIN, int(start.timestamp() * 1000), 365)
    days = [datetime.fromtimestamp(moment / 1000, ZoneInfo(BERLIN)).date() for moment in found]
    assert days == [(start + timedelta(days=number)).date() for number in range(1, 366)]


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("0 25 * * *", "bad hour"),
        ("* * *", "3 fields"),
        ("0 0 0 2 * *", "6 fields"),
        ("@daily", "1 fields"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("0 0 31 4,6 *", "bad day-of-month"),
        ("x 2 * * *", "bad minute"),
        ("", "0 fields"),
    ],
)
def test_a_bad_expression_is_one_line_with_what_it_should_read_like(expression, words):
    with pytest.raises(InvalidInput) as caught:
        cron.check(expression, "UTC")
    assert (caught.value.field, "\n" in str(caught.value)) == ("cron", False)
    assert words in str(caught.value)
    assert "minute hour day-of-month month day-of-week, such as '0 2 * * 1-5'" in str(caught.value)


@pytest.mark.parametrize(
    ("zone", "words"),
    [("Berlin", "mean Europe/Berlin?"), ("Europe/Berln", "Europe/Berlin"), ("../etc/passwd", "Europe/Berlin or UTC")],
)
def test_a_bad_zone_is_one_line_with_the_likely_one(zone, words):
    with pytest.raises(InvalidInput) as caught:
        cron.check("0 2 * * *", zone)
    assert caught.value.field == "timezone"
    assert words in str(caught.value)

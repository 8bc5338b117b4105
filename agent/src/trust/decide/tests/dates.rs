use super::*;

#[test]
fn dates_are_judged_where_the_clock_is_right_and_poison_nothing_where_there_is_none() {
    let mut s = Scenery::new(&["dev"]);
    let a = s.put("dev", &[], "a");
    let at = |s: &mut Scenery, parent: &CommitId, time: i64| {
        s.commit(&Make {
            time,
            ..Make::new("dev", &[parent], "x")
        })
    };
    for (time, reason) in [
        (NOW + DAY / 2, None),
        (NOW - DAY / 2, None),
        (NOW + 2 * DAY, Some("bad-date")),
        (NOW - 2 * DAY, Some("bad-date")),
        (NOW - 400 * DAY, Some("bad-date")),
    ] {
        let tip = at(&mut s, &a, time);
        s.clock = Some(Timestamp(NOW));
        assert_eq!(
            s.verdict(&tip).err().map(|(why, _)| why),
            reason,
            "{}",
            time - NOW
        );
        s.clock = None;
        assert_eq!(s.verdict(&tip), Ok(tip));
    }
    // An honest commit on top of one from the future: refused for nothing, with a clock and without.
    let future = at(&mut s, &a, NOW + 4000 * DAY);
    let honest = at(&mut s, &future, NOW);
    for clock in [None, Some(Timestamp(NOW))] {
        s.clock = clock;
        assert_eq!(s.verdict(&honest), Ok(honest.clone()));
    }
}

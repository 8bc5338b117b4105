use super::*;

const SECTOR: usize = 512;

/// A log of these entries: sector, bytes, flags.
fn log(entries: &[(u64, &[u8], u64)]) -> Vec<u8> {
    let mut bytes = vec![0; SECTOR];
    bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8..16].copy_from_slice(&1_u64.to_le_bytes());
    bytes[16..24].copy_from_slice(&(entries.len() as u64).to_le_bytes());
    bytes[24..28].copy_from_slice(&(SECTOR as u32).to_le_bytes());
    for (sector, data, flags) in entries {
        let mut head = vec![0; SECTOR];
        let words = [*sector, (data.len() / SECTOR) as u64, *flags, 0];
        for (word, place) in words.iter().zip(head.chunks_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes.extend(head);
        bytes.extend(*data);
    }
    bytes
}

fn empty(pages: u64) -> Disk {
    Disk {
        length: pages * PAGE as u64,
        pages: BTreeMap::new(),
    }
}

fn first_byte(disk: &Disk, page: u64) -> u8 {
    disk.pages.get(&page).map_or(0, |bytes| bytes[0])
}

fn cut(after: usize, seed: u64) -> Cut {
    Cut {
        after,
        seed,
        flush: Flush::Honest,
    }
}

#[test]
fn what_was_flushed_stays_and_what_came_later_may_be_lost() {
    let (one, two) = (vec![1; PAGE], vec![2; PAGE]);
    let bytes = log(&[(0, &one, 0), (0, &[], FLUSH), (8, &two, 0), (0, &two, 0)]);
    let log = BlockLog::parse(bytes).unwrap();
    assert_eq!((log.len(), log.flushes()), (4, 1));
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let (disk, certain) = Cutter::new(empty(2), &log).disk(cut(4, seed));
        assert_eq!(certain, 2);
        let ends = (first_byte(&disk, 0), first_byte(&disk, 1));
        assert!([1, 2].contains(&ends.0), "flushed, and gone: {ends:?}");
        seen.insert(ends);
    }
    let all = [(1, 0), (1, 2), (2, 0), (2, 2)];
    assert_eq!(seen, all.into_iter().collect(), "each order is possible");
}

#[test]
fn before_the_first_flush_nothing_is_certain_and_a_disk_that_lies_keeps_nothing() {
    let one = vec![1; PAGE];
    let log = BlockLog::parse(log(&[(0, &one, 0), (0, &[], FLUSH)])).unwrap();
    let ends = |after: usize, flush: Flush| -> std::collections::BTreeSet<u8> {
        (0..200)
            .map(|seed| {
                let cut = Cut { after, seed, flush };
                first_byte(&Cutter::new(empty(1), &log).disk(cut).0, 0)
            })
            .collect()
    };
    assert_eq!(ends(1, Flush::Honest), [0, 1].into_iter().collect());
    assert_eq!(ends(2, Flush::Honest), [1].into_iter().collect());
    assert_eq!(ends(2, Flush::Ignored(2)), [0, 1].into_iter().collect());
}

#[test]
fn a_write_that_skips_the_cache_stays_and_a_discard_changes_nothing() {
    let one = vec![1; PAGE];
    let bytes = log(&[(0, &one, FUA), (0, &[], DISCARD)]);
    let log = BlockLog::parse(bytes).unwrap();
    for seed in 0..50 {
        let (disk, certain) = Cutter::new(empty(1), &log).disk(cut(2, seed));
        assert_eq!((certain, first_byte(&disk, 0)), (0, 1));
    }
}

#[test]
fn a_long_write_may_be_torn_between_its_pages() {
    let long = vec![7; 4 * PAGE];
    let log = BlockLog::parse(log(&[(0, &long, 0)])).unwrap();
    let torn = (0..200).any(|seed| {
        let (disk, _) = Cutter::new(empty(4), &log).disk(cut(1, seed));
        (1..4).contains(&disk.pages.len())
    });
    assert!(torn);
}

#[test]
fn writes_smaller_than_a_page_leave_the_rest_of_it() {
    let (page, sector) = (vec![1; PAGE], vec![2; SECTOR]);
    let bytes = log(&[(0, &page, 0), (1, &sector, 0), (0, &[], FLUSH)]);
    let log = BlockLog::parse(bytes).unwrap();
    let (disk, _) = Cutter::new(empty(1), &log).disk(cut(3, 0));
    let page = &disk.pages[&0];
    assert_eq!((page[511], page[512], page[1023], page[1024]), (1, 2, 2, 1));
    let file = tempfile::NamedTempFile::new().unwrap();
    disk.write(file.path());
    assert_eq!(Disk::read(file.path()), disk);
    empty(1).write(file.path());
    assert_eq!(log.cut_image(file.path(), cut(3, 0)), 3);
    assert_eq!(Disk::read(file.path()), disk, "in place, it is the same");
}

#[test]
fn a_log_that_is_cut_off_or_none_is_refused() {
    let page = vec![1; PAGE];
    let whole = log(&[(0, &page, 0)]);
    assert!(BlockLog::parse(whole[..whole.len() - 1].to_vec()).is_err());
    assert!(BlockLog::parse(whole[..SECTOR].to_vec()).is_err());
    assert!(BlockLog::parse(vec![0; 4096]).is_err());
}

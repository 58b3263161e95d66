//! What a segment holds, and how its texts are found.

use super::*;

const fn place(generation: u64, offset: u32) -> TextPlace {
    TextPlace {
        generation,
        offset,
        len: 10,
        crc: 0,
    }
}

fn add(state: &mut State, generation: u64) -> TextId {
    state
        .add_text(Place::Journal(place(generation, 0)), 1)
        .unwrap()
}

/// All texts of a segment, found in portions of this size, and the number of portions.
fn texts_of(state: &State, generation: u64, max: usize) -> (Vec<u64>, usize) {
    let (mut from, mut ids) = (TextId(0), Vec::new());
    for portions in 1.. {
        let (found, next) = state.texts_of(generation, from, max).unwrap();
        assert!(
            found
                .iter()
                .all(|(_, place)| place.generation == generation)
        );
        ids.extend(found.iter().map(|(id, _)| id.0));
        match next {
            Some(next) => from = next,
            None => return (ids, portions),
        }
    }
    unreachable!()
}

#[test]
fn an_old_text_in_a_new_segment_does_not_make_it_slow_to_look_through() {
    let mut state = State::new();
    let old = add(&mut state, 1);
    for _ in 0..2000 {
        add(&mut state, 2);
    }
    let new: Vec<_> = (0..3).map(|_| add(&mut state, 3)).collect();
    state.move_text(old, 1, place(3, 500)).unwrap();
    let expected: Vec<_> = [old].iter().chain(&new).map(|id| id.0).collect();
    // The texts of segment 2 lie between them. To look at all of these takes over 60 portions.
    assert_eq!(texts_of(&state, 3, 2).0, expected);
    assert!(texts_of(&state, 3, 2).1 <= 3);
    assert_eq!(texts_of(&state, 1, 2), (vec![], 1));
}

#[test]
fn a_segment_of_moved_texts_alone_is_moved_again() {
    let mut state = State::new();
    let ids: Vec<_> = (0..5).map(|_| add(&mut state, 1)).collect();
    for id in &ids {
        state.move_text(*id, 1, place(2, 0)).unwrap();
    }
    state.release_text(ids[1]).unwrap();
    assert_eq!(texts_of(&state, 2, 2).0, [1, 3, 4, 5]);
    // New texts come behind them.
    let new = add(&mut state, 2);
    assert_eq!(texts_of(&state, 2, 2).0, [1, 3, 4, 5, new.0]);
    for id in [1, 3, 4, 5, new.0] {
        state.move_text(TextId(id), 2, place(3, 0)).unwrap();
    }
    assert_eq!(texts_of(&state, 3, 9).0, [1, 3, 4, 5, new.0]);
    assert!(!state.texts.segments.contains(&2).unwrap());
    let left = state.texts.moved.range(Bound::Unbounded, Bound::Unbounded);
    let left: Vec<_> = left.unwrap().map(|item| item.unwrap().0.0).collect();
    assert_eq!(left, [3; 5]);
}

#[test]
fn the_wide_range_of_an_earlier_program_still_works() {
    let mut state = State::new();
    let old = add(&mut state, 1);
    let other = add(&mut state, 2);
    let new = add(&mut state, 3);
    state.move_text(old, 1, place(3, 0)).unwrap();
    // That program had no table of moved texts, and widened the range.
    state.texts.moved.remove(&(3, old));
    let segment = state.texts.segments.get_mut(&3).unwrap().unwrap();
    segment.first = old;
    state.move_text(other, 2, place(3, 0)).unwrap();
    assert_eq!(texts_of(&state, 3, 1).0, [old.0, other.0, new.0]);
    for id in [old, other, new] {
        state.release_text(id).unwrap();
    }
    assert!(!state.texts.segments.contains(&3).unwrap());
    let mut left = state
        .texts
        .moved
        .range(Bound::Unbounded, Bound::Unbounded)
        .unwrap();
    assert!(left.next().is_none());
}

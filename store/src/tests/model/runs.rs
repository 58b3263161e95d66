//! The runs: fixed ones for each day, and long ones with new courses.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{RngSeed, TestRunner},
};

use super::{World, steps::*};
use crate::engine::journal::Mode;

fn block_on(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}

proptest! {
    // The same cases each time, so that this test never fails by chance.
    #![proptest_config(ProptestConfig {
        cases: 150,
        rng_seed: RngSeed::Fixed(20),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_does_what_the_model_does(seed: u64, steps in steps()) {
        block_on(World::new(seed, Mode::Stepped).run(&steps));
    }
}

proptest! {
    // New cases each time. A failure shows its seed and its steps.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "it takes minutes, and each run is another"]
    fn long_run_in_steps(seed: u64, steps in steps()) {
        block_on(World::new(seed, Mode::Stepped).run(&steps));
    }

    // A checkpoint goes on while verbs are carried out. So a failure may not come again.
    #[test]
    #[ignore = "it takes minutes, and each run is another"]
    fn long_run_with_threads(seed: u64, steps in steps()) {
        block_on(World::new(seed, Mode::Held).run(&steps));
    }
}

/// All calls of the disk come in the same order, whatever else the machine does.
#[test]
fn a_run_in_steps_is_the_same_each_time() {
    let mut runner = TestRunner::deterministic();
    for seed in 0..10 {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        let run = || {
            let world = World::new(seed, Mode::Stepped);
            let disk = world.disk.clone();
            block_on(world.run(&steps));
            (disk.counts(), disk.content("index.redb"))
        };
        let (first, second) = (run(), run());
        assert_eq!(first.0, second.0, "{steps:#?}");
        assert!(first.1 == second.1, "{steps:#?}");
    }
}

/// A course without faults, the same each time.
fn course() -> Vec<Step> {
    let mut runner = TestRunner::deterministic();
    let steps = prop::collection::vec(step(), 50).new_tree(&mut runner);
    let steps = steps.unwrap().current().into_iter();
    steps.filter(|step| !step.is_fault()).collect()
}

/// The calls of the disk of each kind fail in turn, in the same course: at most so many of a kind.
fn fail_calls(steps: &[Step], most: u64) {
    let world = World::new(0, Mode::Stepped);
    let disk = world.disk.clone();
    let before = disk.counts().calls_of;
    block_on(world.run(steps));
    let after = disk.counts().calls_of;
    for kind in KINDS {
        let places = after[kind as usize] - before[kind as usize];
        assert!(places > 0, "the course has no call of the kind {kind:?}");
        let step = places.div_ceil(most);
        for place in (0..places).step_by(usize::try_from(step).unwrap()) {
            let world = World::new(place, Mode::Stepped);
            world.disk.fail_call_after(kind, place);
            block_on(world.run(steps));
        }
    }
}

#[test]
fn any_call_of_the_disk_may_fail() {
    fail_calls(&course(), 12);
}

#[test]
#[ignore = "it takes minutes"]
fn long_run_in_which_each_call_fails_once() {
    fail_calls(&course(), u64::MAX);
}

//! All randomness of a thread that was given a seed is that seed's.

use std::{collections::HashMap, hash::BuildHasher};

use quorate_jepsen_core::seed::Seed;
use quorate_sim::dice;

fn sample(seed: u64) -> (Vec<u32>, u64) {
    let thread = std::thread::spawn(move || {
        dice::seed_thread(&Seed::new(seed));
        let map: HashMap<u32, ()> = (0..50).map(|n| (n, ())).collect();
        let dice: u64 = rand::random();
        (map.into_keys().collect(), dice)
    });
    thread.join().expect("no panic")
}

#[test]
fn a_thread_with_a_seed_rolls_that_seeds_dice() {
    assert_eq!(sample(1), sample(1));
    assert_ne!(sample(1).0, sample(2).0, "the order of a hash map");
    assert_ne!(sample(1).1, sample(2).1, "the generator of `rand`");
}

#[test]
fn other_threads_roll_the_kernels() {
    let roll = || {
        let thread = std::thread::spawn(|| {
            (rand::random::<u64>(), std::hash::RandomState::new().hash_one(1))
        });
        thread.join().expect("no panic")
    };
    assert_ne!(roll(), roll());
}

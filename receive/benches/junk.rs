//! The cost of the junk filter for one message of 4 KiB: its words, and its judgement by them.
//!
//! `cargo bench -p postrider-receive --bench junk`.

use std::hint::black_box;

use criterion::Criterion;
use postrider_receive::junk::{Filter, content::probability, tokens::tokens};
use postrider_smtp::mime::Limits;
use postrider_store::{Store, Time};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// A word of that number: syllables.
fn word(mut number: usize) -> String {
    let mut word = String::new();
    for _ in 0..3 {
        let (consonant, vowel) = (number % 14, number / 14 % 5);
        word.push(char::from(b"bdfgklmnprstvz"[consonant]));
        word.push(char::from(b"aeiou"[vowel]));
        number /= 70;
    }
    word
}

fn message(random: &mut StdRng) -> Vec<u8> {
    let mut text = String::from(
        "From: Jane Roe <jane@shop.example>\r\nTo: ann@example.org\r\nSubject: Your order of \
         today\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body>\r\n",
    );
    while text.len() < 4096 {
        text += &format!("<p>{} {}</p> ", word(random.random_range(0..4000)), word(7));
        if text.len() % 9 == 0 {
            text += "<a href=\"https://www.shop.example/a\">see</a>\r\n";
        }
    }
    text.into_bytes()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut random = StdRng::seed_from_u64(1);
    let (limits, key) = (Limits::default(), [7; 16]);
    let runtime = tokio::runtime::Builder::new_multi_thread().build();
    let runtime = runtime.expect("a runtime");
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(postrider_store::Options::new(dir.path())).expect("a store");
    runtime.block_on(async {
        for number in 0..400 {
            let tokens = tokens(&message(&mut random), limits, &key);
            let trained = store.train_junk("ann", tokens, number % 2 == 0, Time(0));
            trained.await.expect("a message is learnt");
        }
        store.close().await;
    });
    // What was learnt is read from the index, not from memory.
    let store = Store::open(postrider_store::Options::new(dir.path())).expect("a store");
    let message = message(&mut random);
    criterion.bench_function("junk, words of 4 KiB", |bench| {
        bench.iter(|| black_box(tokens(black_box(&message), limits, &key)));
    });
    let tokens = tokens(&message, limits, &key);
    let counts = runtime.block_on(store.junk_counts("ann", tokens.clone()));
    let counts = counts.expect("counts");
    criterion.bench_function("junk, probability", |bench| {
        bench.iter(|| black_box(probability(black_box(&counts))));
    });
    let filter = Filter {
        store: &store,
        limits,
    };
    criterion.bench_function("junk, look-up and probability", |bench| {
        bench.iter(|| {
            let judged = runtime.block_on(filter.probability("ann", black_box(&tokens)));
            black_box(judged.expect("a judgement"))
        });
    });
    criterion.final_summary();
    runtime.block_on(store.close());
}

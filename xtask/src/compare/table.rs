//! The table of medians, and the table of ratios.

use std::collections::BTreeMap;

use super::measure::Figures;
use super::{Args, Cell, Who};
use crate::load::mebibytes;
use crate::postrider::Dkim;

/// Prints both tables in Markdown.
pub(super) fn print(args: &Args, results: &BTreeMap<Cell, Vec<Figures>>) {
    println!(
        "Medians of {} rounds of {:?}, {} bytes a message, {}, {}{}{}. In brackets: lowest to highest rate. Latencies are \
         those of acceptance.",
        args.rounds,
        args.time,
        args.size,
        if args.pipelining {
            "envelopes pipelined"
        } else {
            "each command answered before the next"
        },
        if args.tls { "TLS" } else { "no TLS" },
        if args.relay_tls { ", TLS onward" } else { "" },
        match args.dkim {
            Some(Dkim::Ed25519) => ", postrider signs with Ed25519",
            Some(Dkim::Both) => ", postrider signs with Ed25519 and RSA",
            None => "",
        },
    );
    println!();
    println!(
        "| work | sessions | server | messages/s | p50 ms | p99 ms | CPU s/1000 | PSS MiB | durability |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for ((work, sessions, who), rounds) in results {
        let of = |value: fn(&Figures) -> f64| median(rounds.iter().map(value));
        let rates = || rounds.iter().map(|figures| figures.rate);
        println!(
            "| {} | {sessions} | {} | {:.0} ({:.0}-{:.0}) | {:.2} | {:.2} | {} | {} | {} |",
            format!("{work:?}").to_lowercase(),
            who.name(args.peer),
            median(rates()),
            rates().fold(f64::INFINITY, f64::min),
            rates().fold(0.0, f64::max),
            of(|figures| figures.p50 * 1000.0),
            of(|figures| figures.p99 * 1000.0),
            known(of(|figures| figures.cpu), 3),
            known(of(|figures| mebibytes(figures.pss)), 1),
            who.durability()
        );
    }
    print_ratios(args, results);
}

/// Prints postrider's figures divided by the figures of the others, within each round.
fn print_ratios(args: &Args, results: &BTreeMap<Cell, Vec<Figures>>) {
    let mut heading = false;
    for ((work, sessions, who), rounds) in results {
        if !who.is_ours() {
            continue;
        }
        let before = match who {
            Who::Hook => Who::Postrider,
            _ if who.is_webapi() => Who::WebapiBefore,
            _ => Who::Before,
        };
        for other in [Who::Peer, Who::Sink, before] {
            let Some(others) = results.get(&(*work, *sessions, other)) else {
                continue;
            };
            if !heading {
                println!("\n| work | sessions | of | against | rate | p99 | CPU |");
                println!("|---|---|---|---|---|---|---|");
                heading = true;
            }
            let ratio = |value: fn(&Figures) -> f64| {
                let pairs = rounds.iter().zip(others);
                median(pairs.map(|(ours, theirs)| value(ours) / value(theirs)))
            };
            println!(
                "| {} | {sessions} | {} | {} | {:.2} | {:.2} | {:.2} |",
                format!("{work:?}").to_lowercase(),
                who.name(args.peer),
                other.name(args.peer),
                ratio(|figures| figures.rate),
                ratio(|figures| figures.p99),
                ratio(|figures| figures.cpu)
            );
        }
    }
}

/// A figure, or a dash if there is none, such as the memory of a disk.
fn known(figure: f64, decimals: usize) -> String {
    if figure.is_nan() || figure == 0.0 {
        return "-".to_owned();
    }
    format!("{figure:.decimals$}")
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(upper), 0) => (upper + values.get(middle - 1).unwrap_or(upper)) / 2.0,
        (Some(value), _) => *value,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([4.0, 1.0].into_iter()), 2.5);
        assert!(median([].into_iter()).is_nan());
    }

    #[test]
    fn figures_that_there_are_none_of() {
        assert_eq!(known(1.2346, 3), "1.235");
        assert_eq!(known(f64::NAN, 3), "-");
        assert_eq!(known(0.0, 1), "-");
    }
}

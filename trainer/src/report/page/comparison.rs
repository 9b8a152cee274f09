//! The table that compares several runs: results, and the keys in which their recipes differ.

use super::display_names::DisplayNames;
use super::{recipe_keys, summary};
use crate::html_page::numbers::{MISSING, decimals, duration, percent};
use crate::report::history::RunHistory;
use maud::{Markup, html};
use toml::Table;

/// Returns one row per run, or nothing for a single run.
pub fn table(runs: &[RunHistory], names: &DisplayNames) -> Markup {
    if runs.len() < 2 {
        return html! {};
    }
    let recipes: Vec<_> = runs.iter().map(recipe_keys::keys).collect();
    let differing = recipe_keys::differing(&recipes);
    let best = summary::best_run(runs);
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Comparison of the runs" {
            table class="sortable" {
                thead {
                    tr {
                        th scope="col" { "Run" }
                        @for heading in ["Top-1", "Top-5", "Best epoch", "Loss", "Epochs", "Training time"] {
                            th scope="col" class="number" { (heading) }
                        }
                        th scope="col" { "Network" }
                        @for key in &differing { th scope="col" { code { (key) } } }
                    }
                }
                tbody {
                    @for (index, (run, recipe)) in runs.iter().zip(&recipes).enumerate() {
                        tr class=[(best == Some(index)).then_some("best")] {
                            th scope="row" {
                                (super::curves::swatch(index)) " " span class="name" { (names.full(index)) }
                            }
                            (results(run))
                            td class="name" { (recipe_keys::network(recipe).unwrap_or_else(|| MISSING.to_owned())) }
                            @for key in &differing { td { (value(recipe, key)) } }
                        }
                    }
                }
            }
        }
    }
}

fn results(run: &RunHistory) -> Markup {
    let best = run.best();
    let seconds = run.training_seconds();
    html! {
        td class="number" { (percent(best.map_or(f64::NAN, |epoch| epoch.val.top1))) }
        td class="number" { (percent(best.map_or(f64::NAN, |epoch| epoch.val.top5))) }
        td class="number" { (best.map_or_else(|| MISSING.to_owned(), |epoch| epoch.epoch.to_string())) }
        td class="number" { (decimals(best.and_then(|epoch| epoch.val.loss).unwrap_or(f64::NAN), 3)) }
        td class="number" { (run.epochs.len()) }
        td class="number" data-value=(seconds) { (duration(seconds)) }
    }
}

fn value(recipe: &Table, key: &str) -> String {
    recipe.get(key).map_or_else(|| MISSING.to_owned(), recipe_keys::text)
}
